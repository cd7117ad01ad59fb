"""Fit: score, warm start, gate, repair, tune. The stages are in ``stages/``, their optimiser steps in ``trainer.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shrinkspeech.budget.flops import Flops, refuse_uncounted
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.registry import only_target
from shrinkspeech.defaults import CHECKPOINT_EVERY, LEARNING_RATE, ROUND_TO, STEPS
from shrinkspeech.fitting.checkpoint import Checkpoint
from shrinkspeech.fitting.identity import identity_of
from shrinkspeech.fitting.intake import refuse_half
from shrinkspeech.fitting.processes.goals import whole_goal
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.randomness import seed_everything
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.report import FitReport, Fitted, Reached, state_sizes
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.fitting.shrinking import STAGES, shrink
from shrinkspeech.fitting.stages.stage import Draft, Job
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.copies import refuse_outdated
from shrinkspeech.graph.frozen import for_training
from shrinkspeech.graph.start import resumed, started
from shrinkspeech.graph.state import refuse_state
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.part import Part


def fit(
    captured: Captured,
    recipe: Any,
    target_flops: str | float | None = None,
    *,
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
    checkpoint_every: int | str = CHECKPOINT_EVERY,
    resume: bool = False,
    begin_anew: bool = False,
    ignore_uncounted: bool = False,
    **targets: str | float | None,
) -> Fitted:
    """Shrink a captured model to a budget while fine-tuning it. Exactly one target is given.

    Started in several processes (``torchrun``, ``accelerate launch``), they share every batch and take the same steps; each
    returns the same model, and the first alone writes checkpoints, evaluates and tells the progress.

    Args:
        recipe: path of a recipe file, a module or object with ``train_batches`` and ``loss``, or a ``Recipe``.
        target_flops: ``"25%"``, ``"0.25x"``, ``"600k"`` or FLOP/s.
        targets: a budget of another registered quantity, as ``target_NAME``: ``target_params`` (``"25%"``, ``"50k"`` or a
            number), ``target_size`` (``"300kB"`` or bytes of the weights, as float32, in the ONNX file),
            ``target_latency`` (``"2ms"`` or seconds, for a batch of one of the example's length in onnxruntime on one
            thread of this machine), ``target_memory`` (``"64kB"`` or bytes of the activations alive at once), or one of your
            own (``docs/quantities.md``).
        steps: optimiser steps in all.
        seconds: audio that one item of the example batch holds, in s.
        groups: the labelled graph, for instance restricted by ``Groups.restrict``.
        round_to: widths become multiples of this.
        evaluate: call the recipe's ``evaluate`` on the original and on the small model.
        checkpoint: file that holds the state of the fit, written every ``checkpoint_every`` (a time such as ``"5m"``, or a
            number of steps), at the end of each stage, and where SIGINT or SIGTERM ends the fit; the one before lies beside it.
        resume: go on from that file; on the CPU the result is bit by bit what it would have been, if the recipe
            yields the same batches again.
        begin_anew: where that file is of another fit, begin anew in its place.
        ignore_uncounted: accept a budget of FLOP/s though nobody can count some operators: they stand with nothing.

    Raises:
        BudgetError: there is not one target, it cannot be read, is above the original, or cannot be reached or promised.
        RecipeError: the recipe lacks something.
        NotFiniteError: loss or gradient are not finite in several steps in a row, from good weights at a smaller rate too.
        InputError: there is nothing to resume from, the checkpoint is of another fit, or the model keeps state or is frozen.
        ExportError: a size or latency is wanted of a model that cannot be written as ONNX.
        ProcessError: several processes cannot share the batches of this model, or one of them has gone.
        TypeError: there is no such argument.
    """
    refuse_outdated(captured.graph_module)
    refuse_state(captured.graph_module, "a fit")
    settings, team = settings or Settings(), Team.of_launcher()
    original = for_training(captured, settings.train_frozen)
    captured = started(original)
    refuse_half(captured)
    target = only_target({"flops": target_flops, **named_targets(targets)})
    chosen, listener = load_recipe(recipe), on_progress or (lambda progress: None)
    groups = label(captured) if groups is None else groups
    refuse_uncounted(target.quantity, groups, ignore_uncounted)
    goal = whole_goal(team, target.quantity, captured, groups, seconds, round_to).towards(target)
    given = {"target": str(target), "steps": steps, "seed": seed, "seconds": seconds, "learning rate": learning_rate}
    identity = {
        **{**given, "round to": round_to, "evaluate": evaluate, "settings": asdict(settings)},
        **{**identity_of(captured, groups), **chosen.identity},
    }
    saved = Checkpoint(checkpoint, checkpoint_every, identity, resume, begin_anew, team)
    seed_everything(seed)
    with (
        team.together(),
        saved.watching(),
        closing(Trainer(captured, chosen, settings, steps, learning_rate, listener, team)) as trainer,
    ):
        before = trainer.evaluate_first(captured, saved.before) if evaluate else {}
        draft = shrink(Job(trainer, Part.whole(captured, groups), goal, seed), saved)
        after = trainer.evaluate_trained(draft.part.captured.graph_module) if evaluate else {}
    return fitted(original, draft, goal, trainer, before, after, seconds, seed, saved.elapsed())


def named_targets(given: Mapping[str, str | float | None]) -> dict[str, str | float | None]:
    """Arguments ``target_NAME`` by the name of their quantity.

    Raises:
        TypeError: an argument is no target.
    """
    for argument in given:
        if not argument.startswith("target_"):
            raise TypeError(f"fit() has no argument '{argument}'")
    return {argument.removeprefix("target_"): text for argument, text in given.items()}


def fitted(
    original: Captured,
    draft: Draft,
    goal: Goal,
    trainer: Trainer,
    before: Mapping[str, float],
    after: Mapping[str, float],
    seconds: float,
    seed: int,
    duration: float,
) -> Fitted:
    """The result with its report."""
    kind, part = goal.quantity, draft.part
    small = resumed(part.captured, original)
    report = FitReport(
        original_flops=goal.flops.at(goal.full),
        target_flops=goal.target if kind is Flops else None,
        flops=goal.flops.at(part.widths),
        budget=Reached(kind.name, kind.unit, goal.original, goal.target, draft.cost),
        original_params=original.parameter_count,
        params=part.captured.parameter_count,
        metrics_before=before,
        metrics_after=after,
        seconds=seconds,
        steps=trainer.steps,
        seed=seed,
        duration=duration,
        loss=sum(trainer.recent) / len(trainer.recent) if trainer.recent else None,
        skipped=trainer.skipped,
        returns=trainer.returns,
        uncounted=part.groups.left_out,
        unevaluated=trainer.unevaluated,
        states=state_sizes(original, small),
    )
    kept = {name: list(units) for name, units in part.kept.items()}
    return Fitted(small, part.widths, kept, report)


__all__ = ["STAGES", "FitReport", "Fitted", "Progress", "Settings", "fit", "shrink"]
