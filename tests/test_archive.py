"""Programs that would run code of their own on loading are refused, and those that would not are not."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.load import load


class Net(nn.Module):
    """``[B, samples]`` → ``[B, samples]``."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv1d(1, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inside(x.unsqueeze(1))).sum(1)


@pytest.fixture(scope="module")
def program() -> bytes:
    """A ``.pt2`` of ``Net`` with dynamic sizes."""
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(Net().eval(), (torch.randn(2, 800),), dynamic_shapes=({0: auto, 1: auto},))
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def _refused(path: Path) -> str:
    with pytest.raises(LoadError) as caught:
        load(path)
    return str(caught.value)


class Harmful:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _edited(program: bytes, path: Path, edit: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(io.BytesIO(program)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
    return path


def test_edited_program_still_loads(program: bytes, tmp_path: Path) -> None:
    load(_edited(program, tmp_path / "model.pt2", lambda name, data: data))


def test_harmful_pickle_in_program(program: bytes, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    buffer = io.BytesIO()
    torch.save(((Harmful(trap),), {}), buffer)
    path = _edited(program, tmp_path / "m.pt2", lambda n, d: buffer.getvalue() if "sample_inputs" in n else d)
    assert "--trust-pickle" in _refused(path)
    assert not trap.exists()


@pytest.mark.parametrize("target", [b"torch.os.system", b"torch.ops.load_library", b"_operator.call"])
def test_harmful_call_in_program(target: bytes, program: bytes, tmp_path: Path) -> None:
    relu = b"torch.ops.aten.relu.default"
    path = _edited(program, tmp_path / "m.pt2", lambda n, d: d.replace(relu, target) if "models/" in n else d)
    assert f"a call of {target.decode()}" in _refused(path)


def test_harmful_object_in_program(program: bytes, tmp_path: Path) -> None:
    entry = b'{"config": {"c": {"path_name": "opaque_obj_0", "use_pickle": true}}}'
    path = _edited(program, tmp_path / "m.pt2", lambda n, d: entry if "constants_config" in n else d)
    assert "a pickled object (opaque_obj_0)" in _refused(path)


def test_harmful_expression_in_program(program: bytes, tmp_path: Path) -> None:
    path = _edited(
        program,
        tmp_path / "m.pt2",
        lambda n, d: (
            d.replace(b'"expr_str": "Symbol(', b'"expr_str": "().__class__ or Symbol(') if "models/" in n else d
        ),
    )
    assert "the expression ().__class__" in _refused(path)


def test_harmful_pickle_as_weights(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Harmful(trap), protocol=2))
    _refused(tmp_path / "model.pt")
    assert not trap.exists()
