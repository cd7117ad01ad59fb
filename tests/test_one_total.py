"""``inspect``, ``fit``, ``export`` and ``check`` say one number of FLOP/s, as a user reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import layers, recurrences
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.amounts import human
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.fitting.recipe import Recipe
from tests.command import run

SECONDS = 0.5
NAMES = "tasnet residual conformer lstm_encoded_state".split()
SAMPLES = {sample.name: sample for sample in (*layers.SAMPLES, *recurrences.SAMPLES) if sample.name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_one_total(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(SAMPLES[name].model().eval(), SAMPLES[name].inputs())
    recipe = Recipe(train_batches=lambda: [captured.example_inputs] * 2, loss=None, inputs=lambda batch: batch)
    fitted = shrinkspeech.fit(captured, recipe, "60%", steps=2, seconds=SECONDS, evaluate=False)
    fitted.save(tmp_path / "small")
    flops, whole = fitted.report.flops, fitted.report.original_flops
    assert 0 < flops < whole == shrinkspeech.flops(captured, seconds=SECONDS)
    found = said(tmp_path / "small" / "model.pt2", tmp_path / "model.onnx", capsys)
    assert found == {"inspect": pytest.approx(flops, rel=1e-9), "export": human(flops), "check": f"{flops:,.0f}"}


def said(model: Path, onnx: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """FLOP/s as each command says them."""
    commands = {
        "inspect": ["inspect", model, "--json", "--seconds", SECONDS],
        "export": ["export", model, "-o", onnx, "--seconds", SECONDS],
        "check": ["check", onnx],
    }
    texts = {}
    for name, command in commands.items():
        code, texts[name], err = run(command, capsys)
        assert code == 0, err
    exported, checked = re.search(r"([^ ]+) FLOP/s", texts["export"]), re.search(r"FLOP/s +([^ ]+)", texts["check"])
    assert exported is not None
    assert checked is not None
    return {
        "inspect": json.loads(texts["inspect"])["flops_per_second"],
        "export": exported[1],
        "check": checked[1],
    }


class Constants(nn.Module):
    """What no input has a part in: a layer that starts from zeros, and a weight in two factors."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.again = nn.Linear(6, 8), nn.Linear(8, 8, bias=False)
        self.a, self.b = nn.Parameter(torch.randn(8, 3)), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        return (self.line(x) + self.again(torch.zeros(1, 8))) @ (self.a @ self.b)


def test_products_of_constants_cost_in_the_file_what_they_cost_in_the_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Constants().eval(), (torch.randn(2, 6),))
    report = shrinkspeech.export_onnx(captured, tmp_path / "model.onnx")
    assert (
        report.flops
        == onnx_flops(tmp_path / "model.onnx").flops
        == 2 * (6 * 8 + 8 * 8) + (2 * 8 * 8 + 2 * 8 * 3 * 8) / 2
    )
