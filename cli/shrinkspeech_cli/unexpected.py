"""What nobody foresaw: one sentence for the user, the whole story in a file for a report."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("shrinkspeech", "torch", "onnx", "onnxscript", "onnxruntime", "accelerate", "typer")


def sentence(error: BaseException, arguments: Sequence[str]) -> str:
    """One sentence on an error that no part of the tool foresaw, with the file that holds its story."""
    if isinstance(error, MemoryError):
        return "this needs more memory than there is: give a shorter --example or a smaller --batch-size"
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return f"unexpectedly, {what}: {_way_out(error, arguments)}"


def _way_out(error: BaseException, arguments: Sequence[str]) -> str:
    again = "'shrinkspeech --debug …' shows where"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="shrinkspeech-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(story(error, arguments))
    except OSError:
        return f"this is a fault of shrinkspeech's, please report it; {again}"
    return f"this is a fault of shrinkspeech's, please report it with {file.name}; {again}"


def story(error: BaseException, arguments: Sequence[str]) -> str:
    """The command, the versions and the traceback."""
    lines = [f"shrinkspeech {' '.join(arguments)}", f"Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name} {_version(name)}" for name in PACKAGES]
    return "\n".join([*lines, "", *traceback.format_exception(error)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def tell(text: str) -> None:
    """One line on stderr."""
    print(f"Error: {' '.join(text.split())}", file=sys.stderr)
