"""One fit of a study: what may shrink, to what budget, and the row that tells of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import torch
from torch import nn

import shrinkspeech
from benchmarks.case_studies.rows import Fit, defaults
from benchmarks.quality.cases import Case
from benchmarks.quality.measuring import commit
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.groups import Groups

PARTS = {"half": 2, "quarter": 4}
COMMIT = commit()  # when the library was read


@dataclass(frozen=True)
class Small:
    """A model that was made: its graph, and the units of the original that each group keeps."""

    captured: Captured
    kept: Mapping[str, Sequence[int]]

    @property
    def module(self) -> nn.Module:
        return self.captured.graph_module


def budget(name: str, captured: Captured, groups: Groups, seconds: float) -> float:
    """FLOP/s that a budget of ``Fit`` stands for."""
    cost = count(captured, groups, seconds)
    if name not in PARTS:
        return cost.original * float(name.rstrip("%")) / 100
    return cost.at({group.name: max(1, round(group.size / PARTS[name])) for group in groups.shrinkable})


def make(fit: Fit, only: Sequence[str]) -> Small:
    """Capture the trained model, and shrink and tune it unless the budget is all of it.

    Args:
        only: globs of the groups that may shrink; none for all.
    """
    case = Case(fit.model)
    captured = case.captured()
    if fit.budget == "100%":
        return Small(captured, {})
    groups = shrinkspeech.label(captured).restrict(only=only)
    fitted = shrinkspeech.fit(
        captured,
        case.seeded(fit.seed),
        budget(fit.budget, captured, groups, case.recipe.SECONDS),
        steps=fit.steps,
        seed=fit.seed,
        seconds=case.recipe.SECONDS,
        learning_rate=fit.rate,
        groups=groups,
        evaluate=False,
    )
    return Small(fitted.captured, fitted.kept)


def measure(fit: Fit, only: Sequence[str], test: Callable[[str, Small], Mapping[str, str]]) -> dict[str, str]:
    """Make one model and test it: a row of results.

    Args:
        test: what the study wants to know of a model, given its name and itself.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    small = make(fit, only)
    duration = time.perf_counter() - started
    case = Case(fit.model)
    whole, flops = (shrinkspeech.flops(c, seconds=case.recipe.SECONDS) for c in (case.captured(), small.captured))
    small.module.eval()
    with torch.no_grad():
        found = test(fit.model, small)
    return {
        **dict(zip(Fit.__dataclass_fields__, fit.key(), strict=True)),
        "share": f"{flops / whole:.5f}",
        "flops": f"{flops:.0f}",
        "params": str(sum(p.numel() for p in small.module.parameters())),
        **found,
        "widths": " ".join(f"{name}={len(units)}" for name, units in small.kept.items()),
        "settings": defaults(),
        "duration": f"{duration:.1f}",
        "torch": str(torch.__version__),
        "date": date.today().isoformat(),
        "commit": COMMIT,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
