"""What a fit says of itself, on a model of a few weights: the report, refusals, and the tables and plots of a sweep."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.params import Params
from shrinkspeech.errors import BudgetError, InputError
from shrinkspeech.fitting.fit import fit, identity_of, named_targets
from shrinkspeech.fitting.report import FitReport, Fitted, Reached
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.fitting.sweep import _Offset, folder_name, ordered, plot, read_budgets, sweep, write_csv
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.insert import gate

QUICK = Settings(calibration=1, distil=0.0)


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).eval(), (torch.randn(2, 3),))


def train_batches() -> Iterator[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield (torch.randn(4, 3, generator=generator),)


def recipe(**changes: Any) -> Any:
    found = {"train_batches": train_batches, "loss": lambda outputs, batch: outputs.square().mean(), **changes}
    return SimpleNamespace(**found)


@pytest.fixture(scope="module")
def told() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def fitted(captured: Captured, told: list[Progress]) -> Fitted:
    evaluate = lambda model: {"weights": sum(p.numel() for p in model.parameters())}  # noqa: E731
    return fit(
        captured,
        recipe(evaluate=evaluate),
        100.0,
        steps=4,
        seed=7,
        seconds=0.5,
        settings=QUICK,
        on_progress=told.append,
    )


def test_the_report_by_hand(captured: Captured, fitted: Fitted, told: list[Progress]) -> None:
    """2 · (3 + 2) · 8 operations in half a second: 160 FLOP/s, of which 100 are 5 units."""
    report = fitted.report
    assert fitted.widths == {"0": 5}
    assert len(fitted.kept["0"]) == 5
    assert (report.original_flops, report.target_flops, report.flops) == (160.0, 100.0, 100.0)
    assert report.budget == Reached("flops", "FLOP/s", 160.0, 100.0, 100.0)
    assert (report.original_params, report.params) == (8 * 4 + 8 * 2 + 2, 5 * 4 + 5 * 2 + 2)
    assert report.metrics_before == {"weights": 50.0}
    assert report.metrics_after == {"weights": 32.0}
    assert (report.seconds, report.steps, report.seed, report.skipped) == (0.5, 4, 7, 0)
    assert 0 < report.duration < 60
    assert [(now.step, now.steps) for now in told] == [(step, 4) for step in range(1, 5)]
    assert report.loss == pytest.approx(sum(now.loss for now in told) / 4)
    assert {now.target for now in told} == {100.0}
    assert told[-1].flops == told[-1].cost == 100.0


def test_a_budget_of_something_else_has_no_target_of_flops(captured: Captured) -> None:
    found = fit(captured, recipe(), steps=0, settings=QUICK, target_params=30, evaluate=False)
    report = found.report
    assert report.target_flops is None
    assert report.budget == Reached("params", "parameters", 50.0, 30.0, 26.0)
    assert report.flops == 2 * (3 + 2) * 4
    assert report.loss is None
    assert (report.metrics_before, report.metrics_after) == ({}, {})


def test_a_graph_whose_copy_was_trained_is_refused() -> None:
    captured = shrinkspeech.capture(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)).eval(), (torch.randn(2, 3),))
    gated = gate(captured, shrinkspeech.label(captured))
    with torch.no_grad():
        next(gated.graph.parameters()).add_(1.0)
    for refused in (
        lambda: fit(captured, recipe(), "50%", steps=0),
        lambda: sweep(captured, recipe(), ["50%"], steps=0),
    ):
        with pytest.raises(InputError, match="has been trained since"):
            refused()


def test_a_model_that_keeps_state_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.out = nn.Linear(3, 8), nn.Linear(8, 2)
            self.register_buffer("last", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            y = self.out(self.inside(x)) + self.last
            self.last.copy_(y[0])
            return y

    captured = shrinkspeech.capture(Counting().eval(), (torch.randn(2, 3),))
    for refused in (
        lambda: fit(captured, recipe(), "50%", steps=0),
        lambda: sweep(captured, recipe(), ["50%"], steps=0),
    ):
        with pytest.raises(InputError, match="last"):
            refused()


def test_targets_and_what_tells_one_fit_from_another(captured: Captured) -> None:
    assert named_targets({"target_size": "3kB", "target_params": None}) == {"size": "3kB", "params": None}
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'sizes'"):
        named_targets({"sizes": 1})
    groups = shrinkspeech.label(captured)
    found = identity_of(captured, groups.restrict(min_width=3))
    assert found["groups that may shrink"] == {"0": 3}
    assert len(found["weights of the model"]) == len(found["graph of the model"]) == 64


# -- sweeps -------------------------------------------------------------------------------------------------------


def test_budgets_in_order_each_once(captured: Captured) -> None:
    whole = Goal.whole(Flops, captured, shrinkspeech.label(captured))
    found = ordered(whole, read_budgets("flops", ["25%", "50%", "0.5x", 40, "60"]))
    assert [(text, goal.target) for text, goal in found] == [("60", 60.0), ("40", 40.0), ("25%", 20.0)]
    assert [target.quantity for target in read_budgets("params", ["10"])] == [Params]
    with pytest.raises(BudgetError, match="at least one budget"):
        read_budgets("flops", [])
    assert folder_name(" 300 kB") == "300kB"


def test_progress_over_all_budgets() -> None:
    told: list[Progress] = []
    offset = _Offset(told.append, 12)
    now = Progress(3, 6, "tune", 1.0, 2.0, 3.0, {}, 4.0, Flops)
    offset(now)
    offset.done += 6
    offset(now)
    assert [(item.step, item.steps, item.stage) for item in told] == [(3, 12, "tune"), (9, 12, "tune")]


def test_a_sweep_by_hand(captured: Captured) -> None:
    """Each budget starts from the units of the one before, and its report from the original."""
    seen: list[tuple[str, Fitted]] = []
    evaluate = lambda model: {"weights": sum(p.numel() for p in model.parameters())}  # noqa: E731
    options: Any = {"steps": 2, "settings": QUICK, "seconds": 0.5, "on_fitted": lambda *found: seen.append(found)}
    results = sweep(captured, recipe(evaluate=evaluate), ["25%", "50%"], **options)
    assert [text for text, _ in seen] == ["50%", "25%"]
    assert [item for _, item in seen] == results
    assert [item.widths for item in results] == [{"0": 4}, {"0": 2}]
    assert set(results[1].kept["0"]) < set(results[0].kept["0"])
    reports = [item.report for item in results]
    assert [report.budget for report in reports] == [
        Reached("flops", "FLOP/s", 160.0, target, target) for target in (80.0, 40.0)
    ]
    assert [report.metrics_before["weights"] for report in reports] == [50, 50]
    assert [report.metrics_after["weights"] for report in reports] == [26, 14]
    assert [report.steps for report in reports] == [2, 2]
    plain = sweep(captured, recipe(evaluate=evaluate), ["50%"], **options, evaluate=False)
    assert plain[0].report.metrics_before == plain[0].report.metrics_after == {}


def point(flops: float, params: int, loss: float | None, before: dict[str, float], after: dict[str, float]) -> Fitted:
    budget = Reached("params", "parameters", 50.0, params + 1.0, params)
    report = FitReport(160.0, None, flops, budget, 50, params, before, after, 1.0, 10, 0, 2.5, loss)
    return Fitted(None, {}, {}, report)  # type: ignore[arg-type]


MEASURED = {
    "50%": point(80.0, 26, 0.5, {"eer": 3.0, "auc": 0.9}, {"eer": 4.0}),
    "25%": point(40.0, 14, 0.7, {"eer": 3.0, "auc": 0.9}, {"eer": 6.0, "auc": 0.7}),
}
BARE = {"50%": point(80.0, 26, 0.5, {}, {}), "25%": point(40.0, 14, None, {}, {})}


def test_the_table_of_a_sweep(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", MEASURED)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    head = "budget quantity unit target reached flops params training_loss duration eer auc".split()
    assert rows == [
        head,
        ["original", "params", "parameters", "", "50.0", "160.0", "50", "", "", "3.0", "0.9"],
        ["50%", "params", "parameters", "27.0", "26", "80.0", "26", "0.5", "2.5", "4.0", ""],
        ["25%", "params", "parameters", "15.0", "14", "40.0", "14", "0.7", "2.5", "6.0", "0.7"],
    ]


def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: dict[str, Fitted]) -> Figure:
    figures: list[Figure] = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), saved(self, *a, **k))[1])
    plot(tmp_path / "a.png", results)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    return figures[0]


def curves(panel: Any) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(map(tuple, line.get_xydata().tolist())) for line in panel.get_lines()}


def test_the_plot_of_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eer, auc = drawn(tmp_path, monkeypatch, MEASURED).get_axes()
    assert curves(eer) == {"shrunk": [(80.0, 4.0), (40.0, 6.0)], "original": [(160.0, 3.0)]}
    assert math.isnan(curves(auc)["shrunk"][0][1])
    assert curves(auc)["shrunk"][1] == (40.0, 0.7)
    assert (eer.get_xlabel(), eer.get_ylabel(), auc.get_ylabel(), eer.get_xscale()) == ("FLOP/s", "eer", "auc", "log")
    assert [text.get_text() for text in eer.texts] == ["50%", "25%"]
    assert [text.get_text() for text in eer.get_xticklabels()] == ["80", "40", "160"]
    assert eer.get_legend() is not None
    assert len(eer.xaxis.get_minorticklocs()) == 0


def test_the_plot_without_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [panel] = drawn(tmp_path, monkeypatch, BARE).get_axes()
    [(label, points)] = curves(panel).items()
    assert (label, panel.get_ylabel(), points[0]) == ("shrunk", "training loss", (80.0, 0.5))
    assert math.isnan(points[1][1])
    assert [text.get_text() for text in panel.get_xticklabels()] == ["80", "40"]
