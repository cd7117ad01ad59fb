"""A model as our captured graph, cut to whole widths within a target: the means of the methods that need no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

import shrinkspeech
from benchmarks.quality.peers.tuning import Unsupported
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.widths import repair, rescale
from shrinkspeech.errors import BudgetError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups


@dataclass(frozen=True)
class Graph:
    """The captured and labelled model, the widths to choose from, and what they may cost."""

    captured: Captured
    groups: Groups
    goal: Goal

    @classmethod
    def of(cls, model: nn.Module, recipe: Any, target: float) -> Graph:
        """Capture a model.

        Raises:
            Unsupported: the target is below the smallest model.
        """
        captured = shrinkspeech.capture(model, recipe.example_inputs())
        groups = shrinkspeech.label(captured)
        whole = Goal.whole(Flops, captured, groups, recipe.SECONDS)
        try:
            return cls(captured, groups, whole.towards(Flops.parse(f"{target}x")))
        except BudgetError as error:
            raise Unsupported(str(error)) from error

    def uniform(self) -> dict[str, int]:
        """The same share of every group, as large as the limit allows; what rounding leaves is spent."""
        logs = {name: math.log(size) for name, size in self.goal.full.items()}
        return repair(rescale(logs, self.goal, self.goal.target), self.goal, self.goal.target)

    def cut(self, units: Mapping[str, int | Sequence[int]]) -> nn.Module:
        """The graph with only some units, as a trainable module."""
        return shrinkspeech.slice(self.captured, self.groups, units).module()
