"""Importing and calling the user's own Python: whatever it raises becomes one sentence with its file and line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

FAILURES = (Exception, SystemExit)
"""What the user's code may raise; an interrupt from the keyboard is not its fault."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """``TypeError: what it says`` on one line of at most ``limit`` characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def blame(error: BaseException) -> str:
    """The error on one line, with the innermost line of code outside of installed packages: ``… (recipe.py:12)``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and not frame.filename.startswith(("<", _HERE, os.path.dirname(traceback.__file__)))
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return one_line(error) + place


_HERE = str(Path(__file__).parents[1])


def import_file(path: Path) -> ModuleType:
    """Import a Python file by its path; its folder and the current one stay on ``sys.path``, so that it finds its own.

    Raises:
        Exception: whatever the file raises.
    """
    path = path.resolve()
    _on_path(str(path.parent))
    from_here()
    name = f"shrinkspeech_user_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def import_module(name: str) -> ModuleType:
    """Import ``package.module``, also from the current folder.

    Raises:
        Exception: whatever the module raises.
    """
    from_here()
    importlib.invalidate_caches()
    return importlib.import_module(name)


def from_here() -> None:
    """Let the user's modules in the current folder be imported, also from an installed command."""
    _on_path(os.getcwd())


def _on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
