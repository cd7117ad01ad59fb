"""The stages of a fit up to the sliced model: warm start, gates with re-slicing, repair to whole units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.widths import repair, uniform
from shrinkspeech.fitting.controller import WidthController, between
from shrinkspeech.fitting.selection import selection
from shrinkspeech.fitting.taylor import magnitude, taylor
from shrinkspeech.fitting.trainer import Trainer, optimiser_state
from shrinkspeech.surgery.fold import fold
from shrinkspeech.surgery.insert import GatedModule
from shrinkspeech.surgery.part import Part

ROUNDS = 5
"""Repairs at most, where the quantity is measured."""

NEAR = 0.95
"""A measure above this share of the target is near enough."""


# -- warm start ---------------------------------------------------------------------------------------------------


def warm_start(trainer: Trainer, part: Part, goal: Goal, seed: int) -> Part:
    """Rank units, slice uniformly to somewhat above the budget, fold what is removed into what stays."""
    trainer.stage = "score"
    batches = [trainer.next_batch() for _ in range(trainer.settings.calibration)]
    part = ranked(trainer, part, batches, seed)
    share, left = trainer.settings.warm_start, goal.within(part.widths)
    if share is None or share * goal.target >= left.at(left.full):
        return part
    units = part.ranks.best(uniform(left, share * goal.target))
    captured = part.captured
    if trainer.settings.fold and any(len(units[name]) < size for name, size in part.widths.items()):
        captured = fold(captured, part.groups, units, (trainer.inputs(batch, "cpu") for batch in batches))
    return replace(part, captured=captured).slice(units)


def ranked(trainer: Trainer, part: Part, batches: Sequence[Any], seed: int) -> Part:
    """The part with new ranks, by scores on calibration batches."""
    gated = GatedModule(part.captured, part.groups).eval().to(trainer.accelerator.device)
    generator = torch.Generator().manual_seed(seed)

    def felt(model: Any, batch: Any) -> Tensor:
        return trainer.calibration_loss(model, batch, generator)

    kind, names = trainer.settings.score, gated.widths.names
    scores = magnitude(part.captured, part.groups) if kind == "magnitude" else {}
    if kind == "selection":
        inputs, device = partial(trainer.inputs, device="cpu"), trainer.accelerator.device
        scores = selection(part.captured, part.groups, batches, inputs, felt, device)
    scores |= taylor(gated, batches, felt, [name for name in names if name not in scores])
    return replace(part, ranks=part.ranks.with_scores(scores))


# -- gates --------------------------------------------------------------------------------------------------------


class GatedRun:
    """A part with gates, its optimiser and its controller."""

    def __init__(self, trainer: Trainer, part: Part, goal: Goal, real: Mapping[str, float] | None = None) -> None:
        self.trainer, self.part, self.goal = trainer, part, goal
        self.model = GatedModule(part.captured, part.groups, part.ranks).eval()
        self.model.widths.keep_power = trainer.settings.keep_power
        self.names = self.model.widths.names
        if real is not None:
            self.model.widths.set({name: real[name] for name in self.names})
        self.weights = [
            p for name, p in self.model.named_parameters() if p.requires_grad and name != "widths.fractions"
        ]
        self.prepared, self.optimiser = trainer.prepare(self.model, self.weights, part.optimiser)
        left = goal.within(part.widths).among(self.names)
        self.controller = WidthController(self.model.widths, left, trainer.settings.width_rate)

    @property
    def real(self) -> dict[str, float]:
        """The width of every group that could shrink in the original, real."""
        moving = dict(zip(self.names, self.model.widths.real.tolist(), strict=True))
        return {**self.part.widths, **moving}

    def step(self, budget: float, window: float) -> None:
        """One step of the weights, then one of the widths, to a cost of ``budget``."""
        self.model.widths.window = window
        self.trainer.descend(self.prepared, self.optimiser, self.weights)
        if self.names:
            self.controller.step(budget)
        note(self.trainer, self.goal, self.real)

    def enough(self, window: float) -> dict[str, int]:
        """Units that a group may still come to use: those that are open, the boundary, and a margin to grow again."""
        real, step = self.real, self.goal.step

        def units(name: str, size: int) -> int:
            wanted = real[name] + max(2 * window, 0.1 * size)
            return min(size, math.ceil(wanted / step[name]) * step[name])

        return {name: units(name, size) if name in self.names else size for name, size in self.part.widths.items()}

    def resliced(self, window: float) -> GatedRun:
        """The same run without the units that are closed for good, if that makes it enough cheaper; else itself.

        Window and margin leave every keep, and so outputs, gradients and noise, as they were.
        """
        smaller, share = self.enough(window), self.trainer.settings.reslice
        if not share or self.goal.flops.at(smaller) >= share * self.goal.flops.at(self.part.widths):
            return self
        part = self.present()
        run = GatedRun(self.trainer, part.slice(part.ranks.best(smaller)), self.goal, self.real)
        run.model.widths.window = self.model.widths.window
        run.controller.adopt(self.controller)
        return run

    def present(self) -> Part:
        """The part with the weights and optimiser of now, whole."""
        return replace(self.part, captured=self.model.captured(), optimiser=optimiser_state(self.model, self.optimiser))


def gated(trainer: Trainer, run: GatedRun, start: float, after: Callable[[GatedRun, float], None]) -> GatedRun:
    """Widths as real numbers: fall from a cost of ``start`` to the target, then trade at constant cost.

    ``after`` is called with the run and ``start`` after each step.
    """
    trainer.stage, settings, target = "gate", trainer.settings, run.goal.target
    total = trainer.gated_steps
    note(trainer, run.goal, run.real)
    while trainer.step < total:
        progress = (trainer.step + 1) / total
        window = between(settings.window, 1.0, progress)
        run.step(between(start, target, progress / max(1 - settings.hold_share, 1e-9)), window)
        run = run.resliced(window)
        after(run, start)
    return run


def note(trainer: Trainer, goal: Goal, widths: Mapping[str, float]) -> None:
    """Tell the trainer, for its progress, what the present widths cost."""
    trainer.cost, trainer.flops = goal.at(widths), goal.flops.at(widths)


# -- whole units --------------------------------------------------------------------------------------------------


def repaired(run: GatedRun) -> tuple[Part, float]:
    """Whole units within the budget, sliced; and what they cost.

    Where the quantity can be measured it is, and the repair is aimed anew until the measure is within the target.
    """
    part, goal = run.present(), run.goal
    left = goal.within(part.widths)
    aim, best = goal.target, None
    for _ in range(ROUNDS):
        aim = max(aim, left.smallest)
        small = part.slice(part.ranks.best(repair(run.real, left, aim)))
        found = goal.measure(small.captured)
        if found is None:
            return small, left.at(small.widths)
        if best is None or _rank(found, goal.target) < _rank(best[1], goal.target):
            best = small, found
        if NEAR * goal.target <= found <= goal.target:
            break
        aim *= min(max(0.99 * goal.target / found, 0.7), 1.2)
    assert best is not None
    return best


def _rank(found: float, target: float) -> tuple[bool, float]:
    """Within the target first, then nearest to it."""
    return found > target, abs(found - target)
