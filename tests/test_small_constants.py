"""What a model adds so as never to divide by 0 is in the exported file, however small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.export.onnx_file import OnnxFile


class Norm(nn.Module):
    """A norm over features, as in the causal Conv-TasNet of SpeechBrain."""

    def __init__(self, small: float) -> None:
        super().__init__()
        self.line, self.small = nn.Linear(6, 6, bias=False), small

    def forward(self, x: Tensor) -> Tensor:
        y = self.line(x)
        return (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True, unbiased=False) + self.small).sqrt()


@pytest.mark.parametrize("small", [1e-8, 1e-12])
def test_silence_is_no_division_by_zero(small: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6)
    x[:, 2] = 0
    report = shrinkspeech.export_onnx(shrinkspeech.capture(Norm(small).eval(), (x,)), tmp_path / "model.onnx")
    assert report.difference < 1e-5
    assert "Add" in [node.op_type for node in OnnxFile.read(tmp_path / "model.onnx").proto.graph.node]
