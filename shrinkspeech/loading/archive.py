"""What in a ``torch.export`` archive would run code of its own on loading.

``torch.export.load`` unpickles whatever the archive says is pickled, loads compiled libraries, evaluates size
expressions as text and looks operators up by name from ``torch`` on. A program that ``torch.export.save`` wrote for a
plain model needs none of that, so that an archive which does is refused until its owner is trusted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TARGET = re.compile(
    r"torch\.ops\.(?!load_library|import_module|loaded_libraries)[A-Za-z]\w*\.\w+(\.\w+)?"
    r"|torch\.(_sym|sym)_\w+|math\.\w+|_operator\.(?!call|attrgetter|methodcaller|itemgetter)\w+"
)
_EXPRESSION = re.compile(r"(?!.*__)(?!.*\.\s*[A-Za-z_])([\w\s+\-*/%(),.<>=!&|~]|'\w+')*")


def code_in(path: Path) -> str:
    """The first member or entry that would run code on loading, in words; empty if there is none.

    Raises:
        Exception: the archive cannot be read.
    """
    from torch.export.pt2_archive import constants as known
    from torch.export.pt2_archive._package import PT2ArchiveReader

    with (
        path.open("rb") as file,
        PT2ArchiveReader(file) as reader,
    ):  # the reader that loading uses: same names, same bytes
        for name in reader.get_file_names():
            if name.startswith(known.AOTINDUCTOR_DIR):
                return f"compiled code ({name})"
            if name.startswith(known.CONSTANTS_DIR) and name.endswith(".json"):
                for entry in json.loads(reader.read_string(name)).get("config", {}).values():
                    if not str(entry.get("path_name", "")).startswith(known.TENSOR_CONSTANT_FILENAME_PREFIX):
                        return f"a pickled object ({entry.get('path_name')})"
            if name.startswith(known.MODELS_DIR):
                found = next(_calls(json.loads(reader.read_string(name))), "")
                if found:
                    return found
    return ""


def _calls(value: Any) -> Iterator[str]:
    """Operators and size expressions that are not what a graph of tensors holds."""
    if isinstance(value, list):
        for item in value:
            yield from _calls(item)
    if isinstance(value, dict):
        names = [value["target"]] if {"target", "inputs", "outputs"} <= value.keys() else []
        for name in [*names, *([value["as_operator"]] if "as_operator" in value else [])]:
            if not _TARGET.fullmatch(str(name)):
                yield f"a call of {str(name)[:60]}"
        if not _EXPRESSION.fullmatch(str(value.get("expr_str", ""))):
            yield f"the expression {str(value['expr_str'])[:60]}"
        for item in value.values():
            yield from _calls(item)


@contextmanager
def tensors_only() -> Iterator[None]:
    """Inside, ``torch.load`` refuses every pickle that holds more than tensors, also where torch itself calls it."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
