"""Files: what a file holds is read from its content, and nothing that is unpickled may run code unless its owner is trusted."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.archive import code_in, program_in
from shrinkspeech.loading.checkpoints import Place, places
from shrinkspeech.loading.usercode import from_here, one_line
from shrinkspeech.loading.zips import refuse_damaged, refuse_swollen

PLAIN = (argparse.Namespace, type(Path()))
"""What trainers keep beside the weights and that holds values alone: options, and paths."""


def is_program(path: str | Path) -> bool:
    """Whether a file holds an exported program, which brings its own example inputs."""
    return Path(path).is_file() and _kind(Path(path)) == "export"


def weights_in(path: Path, trust: bool) -> list[Place]:
    """The weights in a file, also those of a whole model.

    Raises:
        LoadError: it cannot be read, or is not trusted.
    """
    content = held_in(path, trust)
    if isinstance(content, nn.Module | ExportedProgram):
        return [Place((), dict(content.state_dict() if isinstance(content, nn.Module) else content.state_dict))]
    return content


def held_in(path: Path, trust: bool) -> nn.Module | ExportedProgram | list[Place]:
    """What a model file holds: a model, or weights at one place or several.

    Raises:
        LoadError: it cannot be read, is not trusted, or is of no known kind.
    """
    _present(path)
    kind = _kind(path)
    if kind == "export":
        return _program(path, trust)
    if kind == "safetensors":
        return _safetensors(path)
    if kind == "torch":
        return _unpickled(path, trust)
    raise LoadError(f"{path} {kind}")


def _present(path: Path) -> None:
    if path.is_dir():
        inside = path / "model.pt2"
        raise LoadError(f"{path} is a folder: give the model file in it" + (f", {inside}" if inside.exists() else ""))
    if not path.exists():
        raise LoadError(f"there is no file {path}: give a model file or a factory such as package.module:function")
    try:
        empty = path.stat().st_size == 0
        path.open("rb").close()
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error
    if empty:
        raise LoadError(f"{path} is empty: copy or save it again")
    refuse_damaged(path)


def _kind(path: Path) -> str:
    """``export``, ``safetensors`` or ``torch``; or the rest of a sentence that says why it is none of them."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= path.stat().st_size - 8:
        return "safetensors"
    if re.match(rb"\x80[\x02-\x05]", head):
        return "torch"
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x3a\x42]", head):
        return "is an ONNX file: give the torch model that it was exported from"
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b"):
        return (
            "is an archive of files, as .nemo files are: unpack it, and give the file of weights in it with --factory"
        )
    if path.suffix == ".py":
        return f"is Python code: name the function that builds the model, {path}:function"
    return "is not a model file of a known kind: give a .pt2 of torch.export.save, or weights and --factory"


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "is damaged or cut off: copy or save it again"
    if "archive_format" in names and any(name.startswith("models/") for name in names):
        return "export"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return (
            "is a TorchScript archive, which cannot be captured: "
            "give the model that it was made from, as .pt2 or as --factory and --weights"
        )
    if "data.pkl" in names:
        return "torch"
    return "is a zip archive without a model: give a .pt2 of torch.export.save, or weights and --factory"


def _program(path: Path, trust: bool) -> ExportedProgram:
    with path.open("rb") as file, _silent():
        try:
            found = "" if trust else code_in(file)
        except Exception as error:
            raise LoadError(
                f"{path} is damaged, or of another version of torch: save it again ({one_line(error)})"
            ) from error
        if found:
            raise LoadError(f"{path} holds {found}: give --trust-pickle if you trust where it comes from")
        file.seek(0)
        try:
            program = torch.export.load(file) if trust else program_in(file)
        except pickle.UnpicklingError as error:
            raise LoadError(
                f"{path} holds pickled Python objects, which run code on loading: save it without them, "
                "or give --trust-pickle if you trust where it comes from"
            ) from error
        except Exception as error:
            raise LoadError(
                f"{path} cannot be loaded by torch {torch.__version__}: save it again with this version, "
                f"or give --factory and --weights ({one_line(error)})"
            ) from error
    refuse_swollen(path, [*program.state_dict.values(), *program.constants.values()])
    return program


def _safetensors(path: Path) -> list[Place]:
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:
        raise LoadError(f"{path} is damaged or cut off: copy or save it again ({one_line(error)})") from error
    return _places(path, tensors)


def _unpickled(path: Path, trust: bool) -> nn.Module | list[Place]:
    if trust:
        from_here()
    try:
        with _silent(), torch.serialization.safe_globals(list(PLAIN)):
            content = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise _untrusted(path, error) from error
    except (AttributeError, ImportError) as error:
        raise LoadError(
            f"{path} needs the code of its model, which does not import here: run where it does ({one_line(error)})"
        ) from error
    except Exception as error:
        raise LoadError(f"{path} is damaged or cut off: copy or save it again ({one_line(error)})") from error
    return content if isinstance(content, nn.Module) else _places(path, content)


def _untrusted(path: Path, error: Exception) -> LoadError:
    """Why the safe unpickler stopped: at an object that it does not know, or at damage."""
    found = re.search(r"GLOBAL ([\w.]*\w) was not an allowed|class (\S+) was not", str(error))
    if not found and "Unsupported operand" not in str(error):
        return LoadError(f"{path} is damaged or cut off: copy or save it again")
    named = f" ({found[1] or found[2]})" if found else ""
    return LoadError(
        f"{path} is a pickle of Python objects{named}, and unpickling runs whatever code is in it: save the model with "
        "torch.export.save as .pt2, or its state_dict to load with --factory package.module:function, "
        "or give --trust-pickle if you trust where it comes from"
    )


def _places(path: Path, content: Any) -> list[Place]:
    """The weights in what was unpickled, also where a training checkpoint keeps them beside other things."""
    if not isinstance(content, Mapping):
        raise LoadError(f"{path} holds a {type(content).__name__}, not a model: save model.state_dict() or a .pt2")
    found = list(places(content))
    for place in found:
        refuse_swollen(path, place.tensors.values())
    if not found:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise LoadError(f"{path} holds no weights but {keys}: save model.state_dict() alone")
    return found


@contextmanager
def _silent() -> Iterator[None]:
    """torch logs and warns about what is said better here."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
