"""The fit on tiny models: budget, seeds, what a fold gains, what is saved, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import shrinkspeech
from shrinkspeech.errors import BudgetError, RecipeError
from shrinkspeech.fitting.fit import Progress, Settings
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.taylor import magnitude
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.surgery.fold import fold
from tests.detector import RECIPE, SECONDS, batch, loss, train_batches, trained


@pytest.fixture(scope="module")
def captured() -> Captured:
    return trained(60)


def run(captured: Captured, target: str = "30%", **options: Any) -> Any:
    options = {"steps": 20, "seconds": SECONDS, **options}
    return shrinkspeech.fit(captured, RECIPE, target, **options)


@pytest.fixture(scope="module")
def fitted(captured: Captured) -> Any:
    return run(captured, "30%", steps=40)


def test_the_budget_is_met_and_the_recurrent_layers_are_narrower(captured: Captured, fitted: Any) -> None:
    report = fitted.report
    original = shrinkspeech.flops(captured, seconds=SECONDS)
    assert report.original_flops == pytest.approx(original)
    assert 0.98 * 0.3 * original <= report.flops <= 0.3 * original
    assert shrinkspeech.flops(fitted.captured, seconds=SECONDS) == pytest.approx(report.flops)
    widths = {name: width for name, width in fitted.widths.items() if name.startswith("gru")}
    assert len(widths) == 2
    assert all(width < 24 for width in widths.values())
    assert report.params == sum(p.numel() for p in fitted.captured.graph_module.parameters()) < report.original_params
    assert report.metrics_after["loss"] < 1.5 * report.metrics_before["loss"]


def test_a_seed_makes_it_reproducible(captured: Captured) -> None:
    first, second, other = (run(captured, seed=seed) for seed in (3, 3, 4))
    x = batch(1)[0]
    assert first.widths == second.widths
    assert torch.equal(first.captured.graph_module(x), second.captured.graph_module(x))
    assert not torch.equal(first.captured.graph_module(x), other.captured.graph_module(x))


def test_the_original_is_left_as_it_was(captured: Captured) -> None:
    before = {name: tensor.clone() for name, tensor in captured.parameters().items()}
    run(captured, steps=6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in captured.parameters().items())


def test_progress_tells_every_step(captured: Captured) -> None:
    seen: list[Progress] = []
    result = run(captured, steps=20, on_progress=seen.append)
    assert [item.step for item in seen] == list(range(1, 21))
    assert [item.stage for item in seen] == ["gate"] * 5 + ["tune"] * 15
    assert seen[0].flops > seen[4].flops
    assert seen[4].flops == pytest.approx(result.report.target_flops, rel=1e-6)
    assert seen[-1].flops == pytest.approx(result.report.flops)


def test_round_to(captured: Captured) -> None:
    result = run(captured, "40%", round_to=4)
    assert all(width % 4 == 0 for width in result.widths.values())
    assert result.report.flops <= result.report.target_flops


def test_what_is_excluded_stays_whole(captured: Captured) -> None:
    groups = shrinkspeech.label(captured).restrict(exclude=["gru*"])
    result = run(captured, "75%", groups=groups)
    assert not any(name.startswith("gru") for name in result.widths)
    assert result.captured.graph_module.get_parameter("gru.weight_hh_l0").shape == (72, 24)


def test_without_a_loss_the_original_is_distilled(captured: Captured) -> None:
    audio = SimpleNamespace(train_batches=lambda: (batch(seed)[0] for seed in range(10_000)), loss=loss)
    unlabelled = replace(load_recipe(audio), loss=None)
    result = shrinkspeech.fit(captured, unlabelled, "30%", steps=60, seconds=SECONDS)
    x = batch(5)[0]
    uniform = shrinkspeech.fit(
        captured, unlabelled, "30%", steps=0, seconds=SECONDS, settings=Settings(fold=False, score="magnitude")
    )
    with torch.no_grad():
        wanted = captured.graph_module(x)
        error, untrained = (
            float((item.captured.graph_module(x) - wanted).square().mean()) for item in (result, uniform)
        )
    assert error < 0.5 * untrained


def test_saved_run(fitted: Any, tmp_path: Path) -> None:
    fitted.save(tmp_path / "run")
    x = batch(7)[0]
    program = torch.export.load(tmp_path / "run" / "model.pt2").module()
    assert max_difference(program(x), fitted.captured.graph_module(x)) <= 1e-6
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert {weights[f"gru.weight_hh_l{layer}"].shape[1] for layer in (0, 1)} == {
        width for name, width in fitted.widths.items() if name.startswith("gru")
    }
    assert torch.equal(weights["head.weight"], fitted.captured.graph_module.get_parameter("head.weight"))
    widths = json.loads((tmp_path / "run" / "widths.json").read_text())
    assert {name: item["width"] for name, item in widths.items()} == dict(fitted.widths)
    assert all(len(item["units"]) == item["width"] == len(set(item["units"])) for item in widths.values())


def test_kept_are_units_of_the_original(captured: Captured) -> None:
    """Without steps and folding the small model is the original, sliced to the units that it names."""
    result = run(captured, "30%", steps=0, settings=Settings(fold=False, warm_start=1.3))
    sliced = shrinkspeech.slice(captured, shrinkspeech.label(captured), result.kept)
    x = batch(3)[0]
    assert torch.equal(sliced.graph_module(x), result.captured.graph_module(x))


@pytest.fixture(scope="module")
def resliced(captured: Captured) -> Any:
    """A fit to a twentieth from the whole model: it is re-sliced several times on the way."""
    return run(captured, "5%", steps=60, settings=Settings(warm_start=None))


def test_reslicing_changes_nothing(captured: Captured, resliced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[dict[str, int]] = []
    prepare = Trainer.prepare

    def counted(self: Trainer, model: nn.Module, *rest: Any) -> Any:
        sizes.append({name: tensor.numel() for name, tensor in model.named_parameters()})
        return prepare(self, model, *rest)

    monkeypatch.setattr(Trainer, "prepare", counted)
    never = run(captured, "5%", steps=60, settings=Settings(warm_start=None, reslice=0.0))
    assert len(sizes) == 2
    sizes.clear()
    often = run(captured, "5%", steps=60, settings=Settings(warm_start=None))
    assert len(sizes) >= 4
    assert sum(sizes[-2].values()) < 0.5 * sum(sizes[0].values())
    assert often.report.flops == pytest.approx(never.report.flops, rel=0.02)
    assert often.report.loss == pytest.approx(never.report.loss, rel=0.02)
    assert often.widths == resliced.widths


def test_kept_after_reslicing_gives_the_shapes_of_the_small_model(captured: Captured, resliced: Any) -> None:
    sliced = shrinkspeech.slice(captured, shrinkspeech.label(captured), resliced.kept)
    small = resliced.captured.parameters()
    assert {n: t.shape for n, t in sliced.parameters().items()} == {n: t.shape for n, t in small.items()}
    assert {name: len(units) for name, units in resliced.kept.items()} == resliced.widths


def test_exactly_one_target(captured: Captured) -> None:
    with pytest.raises(BudgetError, match="exactly one target"):
        shrinkspeech.fit(captured, RECIPE, steps=4)
    with pytest.raises(BudgetError, match="exactly one target"):
        shrinkspeech.fit(captured, RECIPE, "50%", target_params="50%", steps=4)


def test_folding_takes_away_much_of_the_error(captured: Captured) -> None:
    """Without training: keep half of every group by magnitude, with and without folding the rest into it."""
    groups = shrinkspeech.label(captured)
    scores = magnitude(captured, groups)
    kept = {name: sorted(score.argsort(descending=True)[: len(score) // 2].tolist()) for name, score in scores.items()}
    inputs = [(batch(seed)[0],) for seed in range(4)]
    x = batch(50)[0]
    wanted = captured.graph_module(x).detach()

    @torch.no_grad()
    def error(source: Captured) -> float:
        return float((shrinkspeech.slice(source, groups, kept).graph_module(x) - wanted).square().mean())

    assert error(fold(captured, groups, kept, inputs)) < 0.6 * error(captured)


def test_folding_nothing_changes_nothing(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    folded = fold(captured, groups, {group.name: range(group.size) for group in groups.shrinkable}, [(batch(0)[0],)])
    assert torch.equal(folded.graph_module(batch(1)[0]), captured.graph_module(batch(1)[0]))


def test_a_loss_that_is_not_finite_is_refused(captured: Captured) -> None:
    recipe = SimpleNamespace(train_batches=train_batches, loss=lambda outputs, item: outputs.mean() * float("nan"))
    with pytest.raises(RecipeError, match="not finite on any batch that units are scored with"):
        shrinkspeech.fit(captured, recipe, "50%", steps=4, seconds=SECONDS)


def test_no_batches_is_refused(captured: Captured) -> None:
    with pytest.raises(RecipeError, match="yields nothing"):
        shrinkspeech.fit(
            captured, SimpleNamespace(train_batches=lambda: [], loss=loss), "50%", steps=4, seconds=SECONDS
        )
