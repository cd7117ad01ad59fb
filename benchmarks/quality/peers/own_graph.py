"""A model as our captured graph, cut to whole widths within a target: the means of the methods that need no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

import shrinkspeech
from benchmarks.quality.peers.tuning import Unsupported
from shrinkspeech.budget.widths import Space, repair, shifted, space
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.groups import Groups


@dataclass(frozen=True)
class Graph:
    """The captured and labelled model, the widths to choose from, and the limit in FLOP/s."""

    captured: Captured
    groups: Groups
    choice: Space
    limit: float

    @classmethod
    def of(cls, model: nn.Module, recipe: Any, target: float) -> Graph:
        """Capture a model.

        Raises:
            Unsupported: the target is below the smallest model.
        """
        captured = shrinkspeech.capture(model, recipe.example_inputs())
        groups = shrinkspeech.label(captured)
        cost = count(captured, groups, recipe.SECONDS)
        choice, limit = space(groups, cost.total, cost.full), target * cost.original
        if choice.smallest > limit:
            raise Unsupported(f"the smallest model has {choice.smallest / cost.original:.1%} of the FLOP/s")
        return cls(captured, groups, choice, limit)

    def uniform(self) -> dict[str, int]:
        """The same share of every group, as large as the limit allows; what rounding leaves is spent."""
        logs = {name: math.log(size) for name, size in self.choice.full.items()}
        return repair(shifted(logs, self.choice, self.limit), self.choice, self.limit)

    def cut(self, units: Mapping[str, int | Sequence[int]]) -> nn.Module:
        """The graph with only some units, as a trainable module."""
        return shrinkspeech.slice(self.captured, self.groups, units).module()
