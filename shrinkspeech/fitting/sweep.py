"""Sweep: one run that visits several budgets from large to small and leaves a model at each.

Every budget is a fit that starts from the tuned model of the budget before: its units are ranked anew, folded away or
closed down to the next budget, and what remains is tuned. A point costs as many steps as it is given, but starts from
weights that have already learnt to do with less.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shrinkspeech.budget.amounts import human
from shrinkspeech.budget.flops import refuse_uncounted
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.registry import Target, quantity_named
from shrinkspeech.defaults import CHECKPOINT_EVERY, LEARNING_RATE, ROUND_TO, STEPS
from shrinkspeech.errors import BudgetError
from shrinkspeech.files import replacing
from shrinkspeech.fitting.checkpoint import Checkpoint
from shrinkspeech.fitting.fit import fitted
from shrinkspeech.fitting.identity import identity_of
from shrinkspeech.fitting.intake import refuse_half
from shrinkspeech.fitting.processes.goals import whole_goal
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.randomness import seed_everything
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.report import FitReport, Fitted, Reached, StateSizes
from shrinkspeech.fitting.settings import Listener, Progress, Settings
from shrinkspeech.fitting.shrinking import shrink
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.copies import refuse_outdated
from shrinkspeech.graph.frozen import for_training
from shrinkspeech.graph.start import resumed, started
from shrinkspeech.graph.state import refuse_state
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.part import Part


def sweep(
    captured: Captured,
    recipe: Any,
    budgets: Sequence[str | float],
    *,
    quantity: str = "flops",
    steps: int = STEPS,
    seed: int = 0,
    seconds: float = 1.0,
    groups: Groups | None = None,
    learning_rate: float = LEARNING_RATE,
    round_to: int = ROUND_TO,
    settings: Settings | None = None,
    on_progress: Listener | None = None,
    on_fitted: Callable[[str, Fitted], None] | None = None,
    evaluate: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | str = CHECKPOINT_EVERY,
    resume: bool = False,
    begin_anew: bool = False,
    ignore_uncounted: bool = False,
) -> list[Fitted]:
    """Shrink a captured model to several budgets in one run.

    Args:
        recipe: as for ``fit``.
        budgets: each as for ``fit``, in any order.
        quantity: what they are of: the name of a registered quantity, such as ``params``.
        steps: optimiser steps for each budget.
        checkpoint, checkpoint_every, resume, begin_anew, ignore_uncounted: as for ``fit``.
        on_fitted: gets each budget as it was written and its model, as soon as it is there; where the sweep goes on, those
            that an earlier run has reached, too.

    Returns:
        One model for each budget, from large to small. ``kept`` tells the units of ``captured`` that remain.

    Raises:
        BudgetError: a budget cannot be read, is above the original, or cannot be reached; nothing has been run then.
        RecipeError: the recipe lacks something, or the loss is not finite.
    """
    refuse_outdated(captured.graph_module)
    refuse_state(captured.graph_module, "a fit")
    settings, team = settings or Settings(), Team.of_launcher()
    original = for_training(captured, settings.train_frozen)
    captured = started(original)
    refuse_half(captured)
    targets = read_budgets(quantity, budgets)
    chosen = load_recipe(recipe)
    groups = label(captured) if groups is None else groups
    refuse_uncounted(quantity_named(quantity), groups, ignore_uncounted)
    goals = ordered(whole_goal(team, quantity_named(quantity), captured, groups, seconds, round_to), targets)
    given = {
        "quantity": quantity,
        "budgets": [text for text, _ in goals],
        "steps": steps,
        "seed": seed,
        "seconds": seconds,
    }
    identity = {
        **{**given, "learning rate": learning_rate, "round to": round_to, "evaluate": evaluate},
        **{"settings": asdict(settings), **identity_of(captured, groups), **chosen.identity},
    }
    saved = Checkpoint(checkpoint, checkpoint_every, identity, resume, begin_anew, team)
    seed_everything(seed)
    shown = _Offset(on_progress or (lambda progress: None), steps * len(goals))
    results: list[Fitted] = []
    with (
        team.together(),
        saved.watching(),
        closing(Trainer(captured, chosen, settings, steps, learning_rate, shown, team)) as trainer,
    ):
        before = trainer.evaluate_first(captured, saved.before) if evaluate else {}
        whole = part = Part.whole(captured, groups)
        reached: list[dict[str, Any]] = saved.before.setdefault("reached", [])
        for text, goal in goals:
            trainer.restart(steps)
            if len(results) < len(reached):
                part = whole.restore(reached[len(results)]["part"])
                result = _again(part, original, reached[len(results)]["report"])
            else:
                begun = saved.elapsed()
                draft = shrink(Job(trainer, part, goal, seed), saved)
                part = draft.part
                after = trainer.evaluate_trained(part.captured.graph_module) if evaluate else {}
                took = saved.elapsed() - begun
                result = fitted(original, draft, goal, trainer, before, after, seconds, seed, took)
                reached.append({"part": part.state(), "report": asdict(result.report)})
            shown.done += steps
            results.append(result)
            if on_fitted is not None:
                on_fitted(text, result)
    return results


def _again(part: Part, original: Captured, report: dict[str, Any]) -> Fitted:
    """What an earlier run has reached at a budget."""
    states = tuple(
        StateSizes(**{**x, "original": tuple(x["original"]), "shape": tuple(x["shape"])}) for x in report["states"]
    )
    known = {"budget": Reached(**report["budget"]), "uncounted": tuple(report["uncounted"]), "states": states}
    kept = {name: list(units) for name, units in part.kept.items()}
    return Fitted(resumed(part.captured, original), part.widths, kept, FitReport(**{**report, **known}))


def read_budgets(quantity: str, budgets: Sequence[str | float]) -> list[Target]:
    """The budgets of a sweep.

    Raises:
        BudgetError: there is none, one cannot be read, or it is not known what they are of.
    """
    kind = quantity_named(quantity)
    if not budgets:
        raise BudgetError("give at least one budget, such as 50% 25% 12.5%")
    return [kind.parse(text) for text in budgets]


def ordered(whole: Goal, targets: Sequence[Target]) -> list[tuple[str, Goal]]:
    """Budgets as they were written and what they mean, from large to small, each once."""
    goals = {target.text: whole.towards(target) for target in targets}
    unique = {goal.target: (text, goal) for text, goal in goals.items()}
    return [unique[amount] for amount in sorted(unique, reverse=True)]


class _Offset:
    """Counts steps over all budgets."""

    def __init__(self, listener: Listener, steps: int) -> None:
        self.listener, self.steps, self.done = listener, steps, 0

    def __call__(self, now: Progress) -> None:
        self.listener(replace(now, step=self.done + now.step, steps=self.steps))


def folder_name(budget: str) -> str:
    """``25%`` or ``600k``: the budget without spaces, as the name of a run's folder."""
    return "".join(budget.split())


def write_csv(path: Path, results: Mapping[str, Fitted]) -> None:
    """One row for each budget, after one for the original: what it reached, FLOP/s, parameters, metrics, time in s."""
    metrics = list(next(iter(results.values())).report.metrics_before)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "budget",
                "quantity",
                "unit",
                "target",
                "reached",
                "flops",
                "params",
                "training_loss",
                "duration",
                *metrics,
            ]
        )
        first = next(iter(results.values())).report
        original, limit = [first.metrics_before[name] for name in metrics], first.budget
        whole = [limit.original, first.original_flops, first.original_params]
        writer.writerow(["original", limit.quantity, limit.unit, "", *whole, "", "", *original])
        for text, fitted in results.items():
            report = fitted.report
            limit = report.budget
            counts = [limit.target, limit.reached, report.flops, report.params, report.loss, report.duration]
            found = [report.metrics_after.get(name, "") for name in metrics]
            writer.writerow([text, limit.quantity, limit.unit, *counts, *found])


def plot(path: Path, results: Mapping[str, Fitted]) -> None:
    """Each metric (without any: the loss at the end of training) against FLOP/s, as PNG; the original is a hollow mark."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    reports = [fitted.report for fitted in results.values()]
    names: list[str] = list(reports[0].metrics_before)
    figure = Figure(figsize=(5.0 * max(len(names), 1), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(len(names), 1), squeeze=False)[0]
    for panel, name in zip(panels, names or ["training loss"], strict=True):
        values = [report.metrics_after.get(name) if names else report.loss for report in reports]
        points = [
            (report.flops, float("nan") if value is None else value)
            for report, value in zip(reports, values, strict=True)
        ]
        panel.plot(*zip(*points, strict=True), "o-", label="shrunk")
        if names:
            panel.plot(
                [reports[0].original_flops], [reports[0].metrics_before[name]], "o", mfc="none", label="original"
            )
        for (x, y), text in zip(points, results, strict=True):
            panel.annotate(text, (x, y), textcoords="offset points", xytext=(4, 5), fontsize="small")
        panel.set(xscale="log", xlabel="FLOP/s", ylabel=name)
        ticks = [x for x, _ in points] + ([reports[0].original_flops] if names else [])
        panel.set_xticks(ticks, [human(x) for x in ticks])
        panel.minorticks_off()
        panel.margins(0.15)
        panel.grid(alpha=0.3)
        panel.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
