"""The stages of a fit by hand, on 20 units: how the budget falls, who may be removed, what is measured, what is averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.stages.gate import Gate, Gates
from shrinkspeech.fitting.stages.repair import ATTEMPTS, Repair
from shrinkspeech.fitting.stages.stage import Draft, Job
from shrinkspeech.fitting.stages.tune import Tune
from shrinkspeech.fitting.stages.warm_start import WarmStart
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.part import Part

PLAIN = Settings(distil=0.0, calibration=2)


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(
        nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2)).eval(), (torch.randn(2, 3),)
    )


def batches() -> Iterator[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield (torch.randn(4, 3, generator=generator),)


def job(captured: Captured, target: str = "25%", steps: int = 40, settings: Settings = PLAIN, round_to: int = 1) -> Job:
    groups = shrinkspeech.label(captured)
    goal = Goal.whole(Flops, captured, groups, round_to=round_to).towards(Flops.parse(target))
    recipe = Recipe(batches, lambda outputs, batch: outputs.square().mean())
    trainer = Trainer(captured, recipe, settings, steps, 1e-3, lambda progress: None)
    return Job(trainer, Part.whole(captured, groups), goal, seed=0)


# -- gate ---------------------------------------------------------------------------------------------------------


def test_the_budget_falls_geometrically_and_then_stays_while_the_window_closes(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of 40 steps: five from 200 to 50 FLOP/s, five at 50; a window from 8 units to 1 over all ten."""
    shared = job(captured, settings=replace(PLAIN, window=8.0, hold_share=0.5))
    seen: list[tuple[float, float]] = []
    resliced: list[float] = []
    monkeypatch.setattr(Gates, "step", lambda self, budget, window: seen.append((budget, window)))
    monkeypatch.setattr(Gates, "reslice", lambda self, window: (resliced.append(window), self)[1])
    stage = Gate(shared)
    stage.begin(shared.draft())
    while not stage.done:
        stage.step()
        shared.trainer.step += 1
    assert len(seen) == 10
    assert [budget for budget, _ in seen] == pytest.approx([200 * 0.25 ** min((i + 1) / 5, 1) for i in range(10)])
    assert [window for _, window in seen] == pytest.approx([8 ** (1 - (i + 1) / 10) for i in range(10)])
    assert resliced == [window for _, window in seen]
    draft = stage.result()
    assert draft.widths == {"0": 20.0}
    assert draft.cost == 200.0


def gates_at(captured: Captured, width: float, settings: Settings = PLAIN, round_to: int = 1) -> Gates:
    shared = job(captured, settings=settings, round_to=round_to)
    found = Gates(shared, shared.whole, {"0": width})
    assert found.real == pytest.approx({"0": width})
    return found


def test_what_a_group_may_still_come_to_use(captured: Captured) -> None:
    """What is open, twice the window or a tenth of the group, in multiples of what widths are; no more than there is."""
    assert gates_at(captured, 5.5).reach(0.25) == {"0": 8}
    assert gates_at(captured, 5.5).reach(3.0) == {"0": 12}
    assert gates_at(captured, 5.5, round_to=5).reach(3.0) == {"0": 15}
    assert gates_at(captured, 15.5).reach(3.0) == {"0": 20}


def test_when_closed_units_are_removed(captured: Captured) -> None:
    """At 5.5 units and a window of 3, 12 of 20 stay, which is 60 % of the FLOP/s."""
    for share, removed in ((0.0, False), (0.59, False), (0.6, False), (0.61, True), (0.8, True)):
        found = gates_at(captured, 5.5, replace(PLAIN, reslice=share))
        found.model.widths.window = 3.0
        found.controller.scale = 7.0
        after = found.reslice(3.0)
        assert (after is not found) == removed, share
        assert after.part.widths == {"0": 12 if removed else 20}
        assert after.real == pytest.approx({"0": 5.5})
        assert (after.model.widths.window, after.controller.scale) == (3.0, 7.0)


def test_one_step_moves_weights_and_widths(captured: Captured) -> None:
    found = gates_at(captured, 20.0)
    before = {name: p.detach().clone() for name, p in found.model.named_parameters()}
    found.step(100.0, 3.0)
    assert found.model.widths.window == 3.0
    assert found.job.goal.at(found.real) == pytest.approx(100.0)
    assert all(not torch.equal(p, before[name]) for name, p in found.model.named_parameters())
    assert len(found.weights) == len(before) - 1
    assert gates_at(captured, 20.0, replace(PLAIN, keep_power=True)).model.widths.keep_power


# -- repair -------------------------------------------------------------------------------------------------------


def measured(captured: Captured, factors: list[float]) -> tuple[Draft, list[int]]:
    """The repair of a quantity that is measured, each time as the FLOP/s times another factor; and the widths it tried."""
    shared, tried, left = job(captured, "50%"), [], iter(factors)

    def measure(small: Captured) -> float:
        tried.append(small.parameters()["0.weight"].shape[0])
        return next(left) * shrinkspeech.flops(small)

    stage = Repair(replace(shared, goal=replace(shared.goal, measure=measure)))
    return stage.improve(replace(shared.draft(), widths={"0": 10.4})), tried


def test_a_measure_that_is_near_enough_ends_the_repair(captured: Captured) -> None:
    draft, tried = measured(captured, [0.96])
    assert (tried, draft.widths, draft.cost) == ([10], {"0": 10}, 96.0)


def test_the_aim_follows_the_measure(captured: Captured) -> None:
    """1.25 times too much: the next aim is 100 · 0.99 / 1.25, 79.2 FLOP/s, which are 7 units."""
    draft, tried = measured(captured, [1.25, 1.25 * 8 / 7])
    assert tried == [10, 7]
    assert draft.cost == pytest.approx(100.0)


def test_one_attempt_changes_the_aim_within_limits(captured: Captured) -> None:
    """By a factor of 0.7 at least and 1.2 at most: 70 FLOP/s are 7 units, then 84 are 8."""
    assert measured(captured, [5.0, 0.5, 1.2])[1] == [10, 7, 8]


def test_of_all_attempts_the_nearest_within_the_target_counts(captured: Captured) -> None:
    draft, tried = measured(captured, [1.01, 0.6, 0.8, 1.3, 0.5])
    assert len(tried) == ATTEMPTS == 5
    costs = [factor * 10 * width for factor, width in zip([1.01, 0.6, 0.8, 1.3, 0.5], tried, strict=True)]
    assert draft.cost == pytest.approx(max(cost for cost in costs if cost <= 100.0))
    above, tried = measured(captured, [1.5, 2.2, 3.0, 4.0, 7.0])
    assert tried == [10, 7, 4, 4, 2]
    assert above.cost == pytest.approx(120.0)


def test_what_is_exact_is_not_tried_twice(captured: Captured) -> None:
    shared = job(captured, "50%")
    draft = Repair(shared).improve(replace(shared.draft(), widths={"0": 10.4}))
    assert (draft.widths, draft.cost) == ({"0": 10}, 100.0)


def test_attempts_are_ordered_by_what_they_miss(captured: Captured) -> None:
    stage, draft = Repair(job(captured, "50%")), job(captured).draft()
    order = sorted([120.0, 90.0, 101.0, 100.0], key=lambda cost: stage.miss(replace(draft, cost=cost)))
    assert order == [100.0, 90.0, 101.0, 120.0]


# -- warm start and tuning ----------------------------------------------------------------------------------------


def test_the_warm_start_leaves_a_multiple_of_the_budget(captured: Captured) -> None:
    for share, width in ((2.0, 10), (3.0, 15), (4.0, 20), (None, 20)):
        shared = job(captured, settings=replace(PLAIN, warm_start=share))
        draft = WarmStart(shared).improve(shared.draft())
        assert (draft.widths, draft.cost) == ({"0": width}, 10.0 * width)
        assert shared.trainer.used == 2


@pytest.mark.parametrize("folded", [True, False])
def test_weights_are_folded_where_that_is_asked_for(captured: Captured, folded: bool) -> None:
    shared = job(captured, settings=replace(PLAIN, fold=folded))
    draft = WarmStart(shared).improve(shared.draft())
    units = list(draft.part.kept["0"])
    own = captured.parameters()["2.weight"][:, units]
    assert torch.equal(draft.part.captured.parameters()["2.weight"], own) != folded


@pytest.mark.parametrize("kind", ["selection", "taylor", "magnitude"])
def test_scores_by_every_method(captured: Captured, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group is scored once; where selection does not apply, Taylor scores do."""
    asked: list[list[str]] = []
    module = "shrinkspeech.fitting.stages.warm_start"
    monkeypatch.setattr(f"{module}.taylor", lambda gates, batches, loss, names, sums: asked.append(names) or {})
    monkeypatch.setattr(f"{module}.selection", lambda *given: {"0": "selected"})
    monkeypatch.setattr(f"{module}.magnitude", lambda *given: {"0": "weighed"})
    shared = job(captured, settings=replace(PLAIN, score=kind))
    found: Any = WarmStart(shared).scores(shared.whole, [])
    assert found == {"selection": {"0": "selected"}, "taylor": {}, "magnitude": {"0": "weighed"}}[kind]
    assert asked == [[] if kind != "taylor" else ["0"]]


@pytest.mark.parametrize(("share", "span"), [(0.2, 6.0), (0.0, None)])
def test_weights_are_averaged_over_a_share_of_the_steps_without_gates(
    captured: Captured, share: float, span: float | None
) -> None:
    """A fifth of the 30 steps that are left of 40."""
    shared = job(captured, settings=replace(PLAIN, average=share))
    stage = Tune(shared)
    stage.begin(shared.draft())
    assert (stage.average is None) == (span is None)
    if stage.average is not None and span is not None:
        assert stage.average.share == pytest.approx(1 - 2.718281828 ** (-1 / span))
    shared.trainer.step = 39
    assert not stage.done
    stage.step()
    assert stage.done
    assert stage.standing.stage == "tune"
    result = stage.result()
    assert result.part.optimiser == {}
    assert not result.part.captured.graph_module.training
    assert not torch.equal(result.part.captured.parameters()["0.weight"], captured.parameters()["0.weight"])
