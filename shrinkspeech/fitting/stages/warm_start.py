"""Warm start: score the units, slice the model uniformly to somewhat above the budget, fold what is removed into what stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.budget.widths import uniform
from shrinkspeech.fitting.selection import selection
from shrinkspeech.fitting.stages.stage import Draft, SingleStep
from shrinkspeech.fitting.taylor import magnitude, taylor
from shrinkspeech.surgery.fold import fold
from shrinkspeech.surgery.insert import GatedModule
from shrinkspeech.surgery.part import Part


class WarmStart(SingleStep):
    """``Settings.warm_start`` times the budget without any training; it uses the first ``Settings.calibration`` batches."""

    name = "warm start"

    def improve(self, draft: Draft) -> Draft:
        trainer, goal = self.job.trainer, self.job.goal
        batches = [trainer.next_batch() for _ in range(trainer.settings.calibration)]
        ranks = draft.part.ranks.with_scores(self.scores(draft.part, batches))
        part = replace(draft.part, ranks=trainer.team.first(lambda: ranks))
        share, left = trainer.settings.warm_start, goal.within(part.widths)
        if share is not None and share * goal.target < left.at(left.full):
            part = self.fold_and_slice(part, uniform(left, share * goal.target), batches)
        return Draft(part, part.widths, goal.at(part.widths))

    def scores(self, part: Part, batches: Sequence[Any]) -> dict[str, Tensor]:
        """The worth of each unit ``[size]`` of every group that may shrink, by the method of ``Settings.score``."""
        trainer = self.job.trainer
        device, kind = trainer.accelerator.device, trainer.settings.score
        gates = GatedModule(part.captured, part.groups).eval().to(device)
        generator = torch.Generator().manual_seed(self.job.seed)

        def loss(model: Any, batch: Any) -> Tensor:
            return trainer.calibration_loss(model, batch, generator)

        scores = magnitude(part.captured, part.groups) if kind == "magnitude" else {}
        if kind == "selection":
            inputs = partial(trainer.losses.inputs, device="cpu")
            scores = selection(part.captured, part.groups, batches, inputs, loss, device, trainer.sharing)
        others = [name for name in gates.widths.names if name not in scores]
        return scores | taylor(gates, batches, loss, others, trainer.sharing)

    def fold_and_slice(self, part: Part, widths: dict[str, int], batches: Sequence[Any]) -> Part:
        """The part with only the best units of each group, to whose readers the weights of the others are added."""
        trainer, units = self.job.trainer, part.ranks.best(widths)
        captured = part.captured
        if trainer.settings.fold and any(len(units[name]) < size for name, size in part.widths.items()):
            inputs = (trainer.losses.inputs(batch, "cpu") for batch in batches)
            captured = fold(captured, part.groups, units, inputs, trainer.sharing)
        return replace(part, captured=captured).slice(units)
