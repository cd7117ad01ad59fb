"""Budgets of parameters, bytes and time: how they are written, what they count, and that they are met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import shrinkspeech
from shrinkspeech.budget import latency
from shrinkspeech.budget.quantity import FLOPS, LATENCY, PARAMS, SIZE, Objective, objective_for, only_target, settled
from shrinkspeech.budget.widths import space
from shrinkspeech.errors import BudgetError
from shrinkspeech.export.constants import parameters
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.stages import GatedRun, Goal, repaired
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import Polynomial, count
from shrinkspeech.surgery.part import Part
from tests.detector import RECIPE, SECONDS, Detector


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Detector().eval(), (torch.randn(2, 12, 50),))


def fit(captured: Captured, **options: Any) -> Any:
    return shrinkspeech.fit(captured, RECIPE, steps=10, seconds=SECONDS, **options)


@pytest.mark.parametrize(
    ("quantity", "text", "amount"),
    [
        (SIZE, "300kB", 3e5),
        (SIZE, "1.2 MB", 1.2e6),
        (SIZE, 4000, 4e3),
        (SIZE, "25%", 250.0),
        (LATENCY, "2ms", 2e-3),
        (LATENCY, "500us", 5e-4),
        (LATENCY, "0.5x", 500.0),
        (PARAMS, "50k", 5e4),
    ],
)
def test_parse(quantity: Any, text: str | float, amount: float) -> None:
    budget = quantity.parse(text)
    assert budget.value * (1000.0 if budget.relative else 1.0) == pytest.approx(amount)


@pytest.mark.parametrize(("quantity", "text"), [(SIZE, "3ms"), (SIZE, "0kB"), (LATENCY, "2kB"), (LATENCY, "fast")])
def test_unreadable(quantity: Any, text: str) -> None:
    with pytest.raises(BudgetError, match="cannot read the target"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("quantity", "amount", "text"),
    [
        (FLOPS, 24_389_076, "24.4M FLOP/s"),
        (PARAMS, 50_000, "50k parameters"),
        (SIZE, 300_000, "300 kB"),
        (SIZE, 80, "80 B"),
        (LATENCY, 0.002, "2 ms"),
        (LATENCY, 0.00042, "420 µs"),
        (LATENCY, 1.5, "1.5 s"),
    ],
)
def test_text(quantity: Any, amount: float, text: str) -> None:
    assert quantity.text(amount) == text


def test_one_target() -> None:
    assert only_target(flops="25%", params=None).quantity is FLOPS
    assert str(only_target(size="30kB")) == "30kB of size"
    with pytest.raises(BudgetError, match="exactly one"):
        only_target(flops="25%", size="25%")


def test_settled() -> None:
    cost = Polynomial({("a", "b"): 2.0, ("a", "a"): 1.0, (): 3.0})
    assert settled(cost, {"b": 5}).terms == {("a",): 10.0, ("a", "a"): 1.0, (): 3.0}


def test_parameters_are_counted_exactly(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    objective = objective_for(PARAMS, captured, groups, SECONDS)
    whole = {group.name: group.size for group in groups}
    assert objective.original == sum(p.numel() for p in captured.graph_module.parameters())
    for share in (0.3, 0.7):
        widths = {group.name: int(share * group.size) for group in groups.shrinkable}
        sliced = shrinkspeech.slice(captured, groups, widths)
        assert objective.cost.at({**whole, **widths}) == sum(p.numel() for p in sliced.graph_module.parameters())


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
    objective = objective_for(PARAMS, captured, shrinkspeech.label(captured), 1.0)
    assert objective.original == sum(p.numel() for p in model.parameters())


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
    found = 4 * parameters(OnnxFile.read(tmp_path / "small.onnx").proto)
    assert result.report.budget.reached == found
    assert 0.95 * 20_000 <= found <= 20_000


def test_not_negative() -> None:
    matrix = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert latency.not_negative(matrix, np.array([1.0, 3.0, 5.0])) == pytest.approx([1.0, 2.0])
    assert latency.not_negative(matrix, np.array([5.0, 3.0, 1.0])) == pytest.approx([3.0, 0.0])


def test_a_latency_model_finds_the_speed_of_each_node() -> None:
    nodes = [Polynomial({("a",): 10.0}), Polynomial({("a", "b"): 4.0}), Polynomial({("b", "b"): 1.0})]
    truth = Polynomial({(): 1e-3, ("a",): 1e-5, ("a", "b"): 4e-6})
    generator = np.random.default_rng(0)
    settings = [{"a": 40, "b": 30}] + [
        {"a": int(generator.integers(2, 40)), "b": int(generator.integers(2, 30))} for _ in range(10)
    ]
    found = latency.fit_latency(nodes, settings, [truth.at(widths) for widths in settings])
    assert all(value >= 0 for value in found.terms.values())
    for a, b in ((40, 30), (20, 8), (5, 25)):
        assert found.at({"a": a, "b": b}) == pytest.approx(truth.at({"a": a, "b": b}), rel=0.05)


def test_a_latency_is_measured_on_this_machine(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes only: that the pieces fit together; how near a model comes is measured in benchmarks."""
    monkeypatch.setattr(latency, "SHARES", (0.3,))
    monkeypatch.setattr(latency, "MIXED", 0)
    groups = shrinkspeech.label(captured)
    objective = latency.latency_objective(captured, groups, repeats=5)
    assert objective.quantity is LATENCY
    assert 0 < objective.original < 1
    assert objective.measure is not None
    assert 0.2 * objective.original < objective.measure(captured) < 5 * objective.original


@pytest.mark.parametrize("factor", [1.0, 1.15, 0.85])
def test_where_the_measure_differs_the_repair_is_aimed_anew(captured: Captured, factor: float) -> None:
    """A machine whose time is the FLOP/s times a factor that the polynomial does not know."""
    groups = shrinkspeech.label(captured)
    cost = count(captured, groups, SECONDS)
    asked: list[float] = []

    def measure(small: Captured) -> float:
        asked.append(factor * shrinkspeech.flops(small, seconds=SECONDS))
        return asked[-1]

    objective = Objective(LATENCY, cost.total, cost.original, measure)
    goal = Goal(objective, space(groups, cost.total, cost.full), 0.3 * cost.original, cost.total)
    trainer = Trainer(captured, load_recipe(RECIPE), Settings(), 10, 2e-3, lambda progress: None)
    run = GatedRun(trainer, Part.whole(captured, groups), goal)
    run.model.widths.set({name: 0.5 * size for name, size in goal.space.full.items()})
    part, reached = repaired(run)
    assert 0.93 * goal.target <= reached <= goal.target
    assert reached == factor * shrinkspeech.flops(part.captured, seconds=SECONDS)
    assert len(asked) <= 5
