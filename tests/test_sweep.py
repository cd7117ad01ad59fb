"""A sweep: several budgets in one run, a folder for each, a table and a plot."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shrinkspeech_cli.main import main
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.errors import BudgetError
from shrinkspeech.fitting.fit import shrink
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.depth import allow_empty, removable
from shrinkspeech.surgery.part import Part
from shrinkspeech.surgery.slice import slice as slice_graph
from tests.detector import RECIPE, SECONDS, batch, evaluate, trained

RECIPE_FILE = """
from tests.detector import batch, loss, evaluate
def train_batches():
    return (batch(seed) for seed in range(1000))
"""


@pytest.fixture(scope="module")
def captured() -> Captured:
    return trained(40)


def run(captured: Captured, budgets: list[str], **options: Any) -> Any:
    return shrinkspeech.sweep(captured, RECIPE, budgets, **{"steps": 20, "seconds": SECONDS, **options})


@pytest.fixture(scope="module")
def swept(captured: Captured) -> Any:
    return run(captured, ["12.5%", "50%", "25%"], steps=40)


def test_budgets_are_visited_from_large_to_small_and_met(captured: Captured, swept: Any) -> None:
    original = shrinkspeech.flops(captured, seconds=SECONDS)
    for share, fitted in zip((0.5, 0.25, 0.125), swept, strict=True):
        assert 0.97 * share * original <= fitted.report.flops <= share * original
        assert fitted.report.flops == shrinkspeech.flops(fitted.captured, seconds=SECONDS)
        assert fitted.report.original_flops == pytest.approx(original)
        assert fitted.report.steps == 40


def test_kept_are_units_of_the_original(captured: Captured, swept: Any) -> None:
    groups = shrinkspeech.label(captured)
    for larger, smaller in itertools.pairwise(swept):
        assert all(set(smaller.kept[name]) <= set(larger.kept[name]) for name in smaller.kept)
        sliced = shrinkspeech.slice(captured, groups, smaller.kept).parameters()
        small = smaller.captured.parameters()
        assert {name: t.shape for name, t in sliced.items()} == {name: t.shape for name, t in small.items()}


def test_a_point_is_about_as_good_as_a_fit_of_its_own(captured: Captured, swept: Any) -> None:
    alone = shrinkspeech.fit(captured, RECIPE, "25%", steps=40, seconds=SECONDS)
    assert evaluate(swept[1].captured.graph_module)["loss"] < 1.05 * alone.report.metrics_after["loss"]


def test_without_steps_it_slices_only(captured: Captured) -> None:
    *_, last = run(captured, ["50%", "25%"], steps=0, settings=Settings(fold=False))
    sliced = shrinkspeech.slice(captured, shrinkspeech.label(captured), last.kept)
    x = batch(3)[0]
    assert torch.equal(sliced.graph_module(x), last.captured.graph_module(x))


def test_progress_counts_over_all_budgets(captured: Captured) -> None:
    seen: list[Progress] = []
    found: list[str] = []
    run(captured, ["30%", "60%"], steps=6, on_progress=seen.append, on_fitted=lambda text, fitted: found.append(text))
    assert [item.step for item in seen] == list(range(1, 13))
    assert {item.steps for item in seen} == {12}
    assert found == ["60%", "30%"]


def test_what_cannot_be_done_is_refused_before_anything_runs(captured: Captured) -> None:
    with pytest.raises(BudgetError, match="cannot be reached"):
        run(captured, ["50%", "0.01%"], on_progress=lambda now: pytest.fail("a step was made"))
    with pytest.raises(BudgetError, match="at least one budget"):
        run(captured, [])
    with pytest.raises(BudgetError, match="cannot be of 'watts': choose one of flops, "):
        run(captured, ["50%"], quantity="watts")


class Residual(nn.Module):
    """``[B, 16, T]`` → ``[B, 2, T]``: two residual branches."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv1d(12, 16, 3, padding=1), nn.Conv1d(16, 2, 3, padding=1)
        self.up = nn.ModuleList(nn.Conv1d(16, 24, 3, padding=1) for _ in range(2))
        self.down = nn.ModuleList(nn.Conv1d(24, 16, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(x)
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(up(x).relu())
        return self.out(x)


def test_it_goes_on_after_a_branch_has_vanished() -> None:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Residual().eval(), (torch.randn(2, 12, 50),))
    groups = shrinkspeech.label(captured)
    groups = allow_empty(groups, removable(captured, groups, slice_graph))
    whole = Part.whole(captured, groups)
    gone = next(name for name, units in whole.kept.items() if len(units) == 24)
    part = whole.slice({**whole.kept, gone: []})
    recipe = SimpleNamespace(train_batches=RECIPE.train_batches, loss=lambda outputs, item: outputs.square().mean())
    trainer = Trainer(captured, load_recipe(recipe), Settings(), 10, 1e-3, lambda progress: None)
    goal = Goal.whole(Flops, captured, groups).towards(Flops.parse("20%"))
    draft = shrink(Job(trainer, part, goal, seed=0))
    small, reached = draft.part, draft.cost
    assert small.widths[gone] == 0
    assert len(small.kept["inside"]) < 16
    assert 0.95 * goal.target <= reached <= goal.target
    assert reached == pytest.approx(shrinkspeech.flops(small.captured))


def test_command(captured: Captured, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    captured.save("model.pt2")
    Path("recipe.py").write_text(RECIPE_FILE)
    options = ["--recipe", "recipe.py", "--steps", "6", "--seconds", "0.5", "--of", "params", "-o", "out"]
    with pytest.raises(SystemExit) as end:
        main(["sweep", "model.pt2", "--budgets", "50%", "25%", *options])
    out, err = capsys.readouterr()
    assert end.value.code == 0, err
    assert "step 12/12" in err
    assert "total time" in out
    with open("out/sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["budget"] for row in rows] == ["original", "50%", "25%"]
    assert all(row["unit"] == "parameters" and float(row["loss"]) > 0 for row in rows)
    assert Path("out/sweep.png").read_bytes().startswith(b"\x89PNG")
    for budget, share in (("50%", 0.5), ("25%", 0.25)):
        report = json.loads(Path("out", budget, "report.json").read_text())
        assert 0.95 * share * report["original_params"] <= report["params"] <= share * report["original_params"]
        assert json.loads(Path("out", budget, "origin.json").read_text())["budget"] == f"{budget} of params"
