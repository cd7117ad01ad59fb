"""Budgets of parameters, bytes and time: how they are written, what they count, and that they are met."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import shrinkspeech
from shrinkspeech.budget import latency_model, quantities, quantity
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.latency import Latency
from shrinkspeech.budget.params import Params
from shrinkspeech.budget.registry import only_target, quantity_named
from shrinkspeech.budget.size import Size
from shrinkspeech.errors import BudgetError
from shrinkspeech.export.constants import weight_elements
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.fitting.report import Reached
from shrinkspeech.fitting.stages.repair import Repair
from shrinkspeech.fitting.stages.stage import Draft
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import Polynomial
from shrinkspeech.surgery.part import Part
from tests.detector import RECIPE, SECONDS, Detector, job


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Detector().eval(), (torch.randn(2, 12, 50),))


def fit(captured: Captured, **options: Any) -> Any:
    return shrinkspeech.fit(captured, RECIPE, steps=10, seconds=SECONDS, **options)


def test_registered() -> None:
    units = {"flops": "FLOP/s", "latency": "s", "params": "parameters", "size": "bytes"}
    assert {name: quantities()[name].unit for name in units} == units
    assert quantity_named("size") is Size
    with pytest.raises(BudgetError, match="cannot be of 'watts': choose one of flops, latency, "):
        quantity_named("watts")


def test_a_second_quantity_of_one_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is a quantity 'size' already \(Size\)"):

        @quantity
        class Again(Size):
            """Takes its name from ``Size``."""


def test_one_target() -> None:
    target = only_target({"flops": "25%", "params": None})
    assert (target.quantity, str(target)) == (Flops, "25%")
    assert str(only_target({"size": "30kB"})) == "30kB of size"
    with pytest.raises(BudgetError, match="exactly one target of flops, latency, "):
        only_target({"flops": "25%", "size": "25%"})
    with pytest.raises(BudgetError, match="exactly one target"):
        only_target({"flops": None})


def test_targets_of_a_fit_are_those_of_the_registry(captured: Captured) -> None:
    with pytest.raises(BudgetError, match="cannot be of 'watts': choose one of flops"):
        fit(captured, target_watts="25%")
    with pytest.raises(TypeError, match="no argument 'size'"):
        fit(captured, size="25%")


def test_the_quantity_of_the_docs(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/quantities.md, word for word: 4 bytes for each unit of both layers of the GRU."""
    text = (Path(__file__).parents[1] / "docs" / "quantities.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.setattr("shrinkspeech.budget.registry._QUANTITIES", quantities())
    exec(compile(code, "quantities.md", "exec"), {})
    result = fit(captured, target_states="100B")
    assert result.report.budget == Reached("states", "bytes", 4 * (24 + 24), 100, 100)
    assert result.widths["gru#0"] + result.widths["gru#1"] == 25
    assert result.report.target_flops is None
    assert str(only_target({"states": "4KiB"})) == "4KiB of states"


def test_parameters_are_counted_exactly(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    found = Params(captured, groups)
    assert found.original == sum(p.numel() for p in captured.graph_module.parameters())
    for share in (0.3, 0.7):
        widths = {group.name: int(share * group.size) for group in groups.shrinkable}
        sliced = shrinkspeech.slice(captured, groups, widths)
        assert found.cost().at(widths) == sum(p.numel() for p in sliced.graph_module.parameters())


def test_a_tied_weight_counts_once() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6), torch.nn.Linear(6, 2)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.b(self.a(x).relu()).relu())

    model = Tied()
    captured = shrinkspeech.capture(model.eval(), (torch.randn(2, 6),))
    assert Params(captured, shrinkspeech.label(captured)).original == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("round_to", [1, 4])
def test_a_budget_of_parameters_is_met(captured: Captured, round_to: int) -> None:
    result = fit(captured, target_params="25%", round_to=round_to)
    report = result.report
    assert report.budget.reached == report.params == sum(p.numel() for p in result.captured.graph_module.parameters())
    assert (0.98 if round_to == 1 else 0.8) * 0.25 * report.original_params <= report.params
    assert report.params <= 0.25 * report.original_params
    assert report.target_flops is None
    assert report.flops == shrinkspeech.flops(result.captured, seconds=SECONDS) < report.original_flops
    assert all(width % round_to == 0 for width in result.widths.values())


def test_a_budget_of_bytes_is_met_in_the_file(captured: Captured, tmp_path: Path) -> None:
    result = fit(captured, target_size="20kB")
    shrinkspeech.export_onnx(result.captured, tmp_path / "small.onnx")
    found = 4 * weight_elements(OnnxFile.read(tmp_path / "small.onnx").proto)
    assert result.report.budget.reached == found
    assert 0.95 * 20_000 <= found <= 20_000


def test_not_negative() -> None:
    matrix = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert latency_model.not_negative(matrix, np.array([1.0, 3.0, 5.0])) == pytest.approx([1.0, 2.0])
    assert latency_model.not_negative(matrix, np.array([5.0, 3.0, 1.0])) == pytest.approx([3.0, 0.0])


def test_a_latency_model_finds_the_speed_of_each_node() -> None:
    nodes = [Polynomial({("a",): 10.0}), Polynomial({("a", "b"): 4.0}), Polynomial({("b", "b"): 1.0})]
    truth = Polynomial({(): 1e-3, ("a",): 1e-5, ("a", "b"): 4e-6})
    generator = np.random.default_rng(0)
    settings = [{"a": 40, "b": 30}] + [
        {"a": int(generator.integers(2, 40)), "b": int(generator.integers(2, 30))} for _ in range(10)
    ]
    found = latency_model.fit_latency(nodes, settings, [truth.at(widths) for widths in settings])
    assert all(value >= 0 for value in found.terms.values())
    for a, b in ((40, 30), (20, 8), (5, 25)):
        assert found.at({"a": a, "b": b}) == pytest.approx(truth.at({"a": a, "b": b}), rel=0.05)


def test_a_latency_is_measured_on_this_machine(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes only: that the pieces fit together; how near a model comes is measured in benchmarks."""
    monkeypatch.setattr(latency_model, "SHARES", (0.3,))
    monkeypatch.setattr(latency_model, "MIXED", 0)
    monkeypatch.setattr(Latency, "repeats", 5)
    goal = Goal.whole(Latency, captured, shrinkspeech.label(captured))
    assert goal.quantity is Latency
    assert 0 < goal.original < 1
    assert goal.at(goal.full) == pytest.approx(goal.original, rel=0.5)
    assert 0.2 * goal.original < (goal.measure(captured) or 0) < 5 * goal.original


@pytest.mark.parametrize("factor", [1.0, 1.15, 0.85])
def test_where_the_measure_differs_the_repair_is_aimed_anew(captured: Captured, factor: float) -> None:
    """A machine whose time is the FLOP/s times a factor that the polynomial does not know."""
    groups = shrinkspeech.label(captured)
    asked: list[float] = []

    def measure(small: Captured) -> float:
        asked.append(factor * shrinkspeech.flops(small, seconds=SECONDS))
        return asked[-1]

    goal = Goal.whole(Flops, captured, groups, SECONDS).towards(Flops.parse("30%"))
    goal = replace(goal, quantity=Latency, measure=measure)
    widths = {name: 0.5 * size for name, size in goal.full.items()}
    stage = Repair(replace(job(captured), goal=goal))
    small = stage.improve(Draft(Part.whole(captured, groups), widths, goal.at(widths)))
    assert small.widths == small.part.widths
    assert 0.93 * goal.target <= small.cost <= goal.target
    assert small.cost == factor * shrinkspeech.flops(small.part.captured, seconds=SECONDS)
    assert len(asked) <= 5
