"""A model in float16 is compared with its file at what float16 can tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.defaults import HALF_TOLERANCE, TOLERANCE
from shrinkspeech.errors import ExportError
from shrinkspeech.export.check import check
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.parity import tolerance_of
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured


class Net(nn.Module):
    """``[B, T, 20]`` → ``[B, T, 4]``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.between, self.out = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.between(self.inside(x).relu()).tanh())
        return y


@pytest.fixture(scope="module")
def half() -> Captured:
    x = torch.randn(4, 9, 20, generator=torch.Generator().manual_seed(0))
    return capture(Net().eval().half(), (x.half(),))


def test_half_precision_has_a_tolerance_of_its_own(half: Captured, tmp_path: Path) -> None:
    assert (tolerance_of(half), tolerance_of(capture(Net().eval(), (torch.randn(2, 9, 20),)))) == (
        HALF_TOLERANCE,
        TOLERANCE,
    )
    report = export_onnx(half, tmp_path / "m.onnx")
    assert TOLERANCE < report.difference < HALF_TOLERANCE
    rows = [row for row in check(tmp_path / "m.onnx", reference=half).rows if row.name.startswith("difference")]
    assert rows
    assert all(row.met for row in rows)
    assert {row.limit for row in rows} == {HALF_TOLERANCE}


def test_a_tolerance_that_is_given_holds(half: Captured, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"at most 1\.0e-04 is accepted"):
        export_onnx(half, tmp_path / "m.onnx", tolerance=TOLERANCE)
    assert not (tmp_path / "m.onnx").exists()
    export_onnx(half, tmp_path / "m.onnx")
    assert not check(tmp_path / "m.onnx", reference=half, tolerance=1e-6).met


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_in_half_precision_are_refused(kind: type[nn.Module], tmp_path: Path) -> None:
    """onnxruntime ends the process when it opens some such files."""
    captured = capture(kind(8, 6).half().eval(), (torch.randn(4, 5, 8).half(),))
    with pytest.raises(
        ExportError, match=rf"model \({kind.__name__}\)\) is in float16, with which onnxruntime may crash"
    ):
        export_onnx(captured, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
