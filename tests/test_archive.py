"""Programs that would run code of their own on loading are refused, and those that would not are not."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.load import load
from tests.hostile import Net, edited, program_of


@pytest.fixture(scope="module")
def program() -> bytes:
    """A ``.pt2`` of ``Net`` with dynamic sizes."""
    return program_of(Net(), torch.randn(2, 800))


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


def test_edited_program_still_loads(program: bytes, tmp_path: Path) -> None:
    load(edited(program, tmp_path / "model.pt2", lambda name, data: data))


def test_harmful_pickle_in_program(program: bytes, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    buffer = io.BytesIO()
    torch.save(((Harmful(trap),), {}), buffer)
    path = edited(program, tmp_path / "m.pt2", lambda n, d: buffer.getvalue() if "sample_inputs" in n else d)
    assert "--trust-pickle" in _refused(path)
    assert not trap.exists()


@pytest.mark.parametrize("target", [b"torch.os.system", b"torch.ops.load_library", b"_operator.call"])
def test_harmful_call_in_program(target: bytes, program: bytes, tmp_path: Path) -> None:
    relu = b"torch.ops.aten.relu.default"
    path = edited(program, tmp_path / "m.pt2", lambda n, d: d.replace(relu, target) if "models/" in n else d)
    assert f"a call of {target.decode()}" in _refused(path)


def test_harmful_object_in_program(program: bytes, tmp_path: Path) -> None:
    kept = b'{"path_name": "opaque_obj_0", "is_param": false, "use_pickle": true, "tensor_meta": null}'
    entry = b'{"config": {"c": ' + kept + b"}}"
    path = edited(program, tmp_path / "m.pt2", lambda n, d: entry if "constants_config" in n else d)
    assert "a pickled object (opaque_obj_0)" in _refused(path)


def test_harmful_expression_in_program(program: bytes, tmp_path: Path) -> None:
    path = edited(
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
