"""Programs with code hidden in them, and a watch that notices if any of it runs."""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[Any, ...]
"""Keys and indices that lead to one entry of a nest of mappings and lists."""

WATCHED = frozenset(
    "os.system os.exec os.posix_spawn os.fork os.mkdir os.remove os.rename subprocess.Popen socket.connect "
    "ctypes.dlopen shutil.rmtree".split()
)
"""What no program may do on loading, as Python's audit hooks name it; ``open`` counts where it writes."""

CANARY = "shrinkspeech_canary"
"""The folder that hidden code would make, and the module that it would import."""

RUN = f"__import__('os').mkdir('{CANARY}')"
SPELT = f"exec({'+'.join(f'chr({ord(letter)})' for letter in RUN)})"
"""The same without a quotation mark or an underscore."""

_seen: list[str] | None = None


def _audit(event: str, arguments: Any) -> None:
    if _seen is None:
        return
    if (
        event in WATCHED
        or (event == "open" and "w" in str(arguments[1]))
        or (event == "import" and CANARY in arguments)
    ):
        _seen.append(f"{event} {arguments[:2]}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Inside, what is executed is written down; a hook cannot be taken away, so that it sleeps outside."""
    global _seen
    _seen = []
    try:
        yield _seen
    finally:
        _seen = None


class Net(nn.Module):
    """``[B, samples]`` → ``[B, samples]``."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv1d(1, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inside(x.unsqueeze(1))).sum(1)


def program_of(model: nn.Module, *inputs: Tensor) -> bytes:
    """A ``.pt2`` with all sizes dynamic."""
    dims = tuple({dim: torch.export.Dim.AUTO for dim in range(x.dim())} for x in inputs)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        torch.export.save(torch.export.export(model.eval(), inputs, dynamic_shapes=dims), buffer)
    return buffer.getvalue()


def edited(program: bytes, path: Path, edit: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive, each of its members changed by ``edit(name, content)``."""
    with zipfile.ZipFile(io.BytesIO(program)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
    return path


def with_json(program: bytes, path: Path, edit: Callable[[Any], None], member: str = "/models/") -> Path:
    """A copy of an archive whose JSON members at ``member`` are changed by ``edit(content)``, in place."""

    def change(name: str, content: bytes) -> bytes:
        if member not in name or not name.endswith(".json"):
            return content
        value = json.loads(content)
        edit(value)
        return json.dumps(value).encode()

    return edited(program, path, change)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Where the strings and numbers of a nest stand."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*at, index))
    else:
        yield at


def put(nest: Any, place: Place, value: Any) -> None:
    """Write one entry of a nest."""
    for key in place[:-1]:
        nest = nest[key]
    nest[place[-1]] = value


def entry(nest: Any, place: Place) -> Any:
    """Read one entry of a nest."""
    for key in place:
        nest = nest[key]
    return nest
