"""Where the data lie that the sample models are trained and measured on."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SHRINKSPEECH_DATA"


def data_folder(*tables: str) -> Path:
    """The folder that the environment names, in which these tables are.

    Raises:
        RuntimeError: it is not named, or lacks one of them.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise RuntimeError(f"set {VARIABLE} to the data folder (it holds {' and '.join(tables)})")
    for table in tables:
        if not (Path(folder) / table).is_file():
            raise RuntimeError(f"{VARIABLE}={folder}: there is no {table} in it")
    return Path(folder)
