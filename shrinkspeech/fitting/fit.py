"""Fit: score, warm start, gate, repair, tune. Stages are in ``stages.py`` and ``tune.py``, steps in ``trainer.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from shrinkspeech.budget.quantity import FLOPS, Objective, Quantity, Target, objective_for, only_target
from shrinkspeech.budget.widths import reach, space
from shrinkspeech.defaults import CHECKPOINT_EVERY, LEARNING_RATE, ROUND_TO, STEPS
from shrinkspeech.fitting.checkpoint import Watch, restore_trainer, restored_part, restored_run
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.report import FitReport, Fitted, Reached
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.fitting.stages import GatedRun, Goal, gated, note, repaired, warm_start
from shrinkspeech.fitting.trainer import Trainer, seed_everything
from shrinkspeech.fitting.tune import TunedRun, tune
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.copies import refuse_outdated
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.part import Part


def fit(
    captured: Captured,
    recipe: Any,
    target_flops: str | float | None = None,
    *,
    target_params: str | float | None = None,
    target_size: str | float | None = None,
    target_latency: str | float | None = None,
    steps: int = STEPS,
    seed: int = 0,
    seconds: float = 1.0,
    groups: Groups | None = None,
    learning_rate: float = LEARNING_RATE,
    round_to: int = ROUND_TO,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    evaluate: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    resume: bool = False,
) -> Fitted:
    """Shrink a captured model to a budget while fine-tuning it. Exactly one target is given.

    Args:
        recipe: path of a recipe file, a module or object with ``train_batches`` and ``loss``, or a ``Recipe``.
        target_flops: ``"25%"``, ``"0.25x"``, ``"600k"`` or FLOP/s.
        target_params: ``"25%"``, ``"50k"`` or a number of parameters.
        target_size: ``"25%"``, ``"300kB"`` or bytes of the weights, as float32, in the ONNX file.
        target_latency: ``"50%"``, ``"2ms"`` or seconds, for a batch of one of the example's length in onnxruntime on
            one thread of this machine.
        steps: optimiser steps in all.
        seconds: audio that one item of the example batch holds, in s.
        groups: the labelled graph, for instance restricted by ``Groups.restrict``.
        round_to: widths become multiples of this.
        evaluate: call the recipe's ``evaluate`` on the original and on the small model.
        checkpoint: file that holds the state of the fit, written every ``checkpoint_every`` steps.
        resume: go on from that file; on the CPU the result is bit by bit what it would have been, if the recipe
            yields the same batches again.

    Raises:
        BudgetError: there is not one target, it cannot be read, is above the original, or cannot be reached.
        RecipeError: the recipe lacks something, or the loss is not finite.
        InputError: there is nothing to resume from, or the checkpoint is of another fit.
        ExportError: a size or latency is wanted of a model that cannot be written as ONNX.
    """
    refuse_outdated(captured.graph_module)
    target = only_target(flops=target_flops, params=target_params, size=target_size, latency=target_latency)
    chosen, listener = load_recipe(recipe), on_progress or (lambda progress: None)
    settings = settings or Settings()
    problem = Problem.of(captured, label(captured) if groups is None else groups, seconds, target.quantity, round_to)
    goal = problem.goal(target)
    identity = {"options": [str(target), steps, seed, seconds, learning_rate, round_to], "settings": asdict(settings)}
    watch = Watch.of(checkpoint, checkpoint_every, {**identity, **problem.identity()}, resume)
    started = time.perf_counter()
    seed_everything(seed)
    trainer = Trainer(captured, chosen, settings, steps, learning_rate, listener)
    before = trainer.evaluate(captured.copy()) if evaluate else {}
    part, reached = shrink(trainer, Part.whole(captured, problem.groups), goal, seed, watch)
    after = trainer.evaluate(part.captured.graph_module) if evaluate else {}
    return problem.fitted(trainer, part, goal, reached, before, after, seed, time.perf_counter() - started)


def shrink(trainer: Trainer, whole: Part, goal: Goal, seed: int, watch: Watch | None = None) -> tuple[Part, float]:
    """All stages, or those that are left of an earlier run: the tuned part, and what the objective says of it."""
    trainer.quantity, trainer.target = goal.objective.quantity, goal.target
    watch = watch or Watch()
    state = watch.state
    if state is not None and state["stage"] == "tune":
        part, watch.reached = restored_part(state, whole), state["reached"]
    else:
        if state is None:
            part = warm_start(trainer, whole, goal, seed)
            run, start = GatedRun(trainer, part, goal), goal.space.at(part.widths)
        else:
            run, start = restored_run(state, trainer, restored_part(state, whole), goal), state["start"]
            restore_trainer(state, trainer)
        part, watch.reached = repaired(gated(trainer, run, start, watch.gate))
    note(trainer, goal, part.widths)
    average: dict[str, Tensor] = {}
    if state is not None and state["stage"] == "tune":
        restore_trainer(state, trainer)
        average = state["average"]
    return tune(TunedRun(trainer, part, average), watch.tune), watch.reached


@dataclass(frozen=True)
class Problem:
    """A model, what may shrink in it, and what is to be limited."""

    captured: Captured
    groups: Groups
    seconds: float
    round_to: int
    objective: Objective

    @classmethod
    def of(cls, captured: Captured, groups: Groups, seconds: float, quantity: Quantity, round_to: int) -> Problem:
        """Finds out what the whole model costs; for a latency this takes some measuring."""
        return cls(captured, groups, seconds, round_to, objective_for(quantity, captured, groups, seconds))

    def identity(self) -> dict[str, Any]:
        """What tells one model and its groups from another."""
        return {
            "tensors": {name: list(tensor.shape) for name, tensor in self.captured.parameters().items()},
            "groups": {group.name: group.min_width for group in self.groups.shrinkable},
        }

    def goal(self, target: Target) -> Goal:
        """A budget as what the stages work towards.

        Raises:
            BudgetError: it is above the original, or out of reach.
        """
        cost = count(self.captured, self.groups, self.seconds)
        choice = space(self.groups, self.objective.cost, cost.full, self.round_to)
        amount = self.objective.resolve(target)
        reach(choice, amount, self.objective.quantity.text)
        return Goal(self.objective, choice, amount, cost.total)

    def fitted(
        self,
        trainer: Trainer,
        part: Part,
        goal: Goal,
        reached: float,
        before: Mapping[str, float],
        after: Mapping[str, float],
        seed: int,
        duration: float,
    ) -> Fitted:
        """The result with its report."""
        quantity = self.objective.quantity
        report = FitReport(
            original_flops=goal.flops.at(goal.space.full),
            target_flops=goal.target if quantity is FLOPS else None,
            flops=goal.flops.at(part.widths),
            budget=Reached(quantity.name, quantity.unit, self.objective.original, goal.target, reached),
            original_params=parameter_count(self.captured),
            params=parameter_count(part.captured),
            metrics_before=before,
            metrics_after=after,
            seconds=self.seconds,
            steps=trainer.steps,
            seed=seed,
            duration=duration,
            loss=sum(trainer.recent) / len(trainer.recent) if trainer.recent else None,
        )
        kept = {name: list(units) for name, units in part.kept.items()}
        return Fitted(part.captured, part.widths, kept, report)


def parameter_count(captured: Captured) -> int:
    return sum(p.numel() for p in captured.graph_module.parameters())


__all__ = ["FitReport", "Fitted", "Progress", "Settings", "fit"]
