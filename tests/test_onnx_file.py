"""An ONNX file is read once, with what lies beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from shrinkspeech.errors import InputError
from shrinkspeech.export.check import check
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.export.onnx_file import OnnxFile
from tests.onnx_files import node, written


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return written(tmp_path / "plain.onnx", [node("MatMul", "x w")], {"x": ["batch", 4, 32]}, {"w": (32, 16)})


@pytest.fixture
def parted(plain: Path) -> Path:
    """The same model with its weight in a file beside it."""
    model = onnx.load(str(plain))
    path = plain.with_name("parted.onnx")
    onnx.save(model, str(path), save_as_external_data=True, location="parted.onnx.data", size_threshold=0)
    return path


def test_a_file_says_what_it_holds(plain: Path) -> None:
    file = OnnxFile.read(plain)
    assert [value.name for value in file.inputs] == ["x"]
    assert list(file.initialisers) == ["w"]
    assert file.fixed_sizes == [{1: 4, 2: 32}]
    assert file.metadata == {}
    assert file.size == plain.stat().st_size
    assert file.session() is file.session()
    assert OnnxFile.of(file) is file
    assert OnnxFile.of(plain.read_bytes()).size == file.size
    assert str(file) == str(plain)


def test_tensors_beside_the_file_belong_to_it(plain: Path, parted: Path) -> None:
    file = OnnxFile.read(parted)
    beside = parted.with_name("parted.onnx.data")
    assert beside.stat().st_size >= 4 * 32 * 16
    assert file.size == parted.stat().st_size + beside.stat().st_size
    x = {"x": np.ones((2, 4, 32), np.float32)}
    np.testing.assert_array_equal(file.session().run(None, x)[0], OnnxFile.read(plain).session().run(None, x)[0])
    assert onnx_flops(parted, 1.0, [(2, 4, 32)]).flops == 2 * 4 * 32 * 16
    [row] = [row for row in check(parted).rows if row.name == "bytes"]
    assert row.measured == file.size
    assert not check(parted, max_bytes=file.size - 1).met
    beside.unlink()
    with pytest.raises(InputError, match=r"parted\.onnx is not a valid ONNX model: .*parted\.onnx\.data"):
        OnnxFile.read(parted)


def test_a_check_reads_the_file_once(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = onnx.load
    monkeypatch.setattr(onnx, "load", lambda path, **kwargs: (read.append(path), load(path, **kwargs))[1])
    check(plain, max_flops=1e9, max_params=1e9, max_latency=10.0, seconds=1.0, example=[(1, 4, 32)], repeats=1)
    assert read == [str(plain)]
