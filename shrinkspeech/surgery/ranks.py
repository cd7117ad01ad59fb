"""Ranks: the order in which the units of each group go. Whoever needs the order holds this record and none of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """The place of every unit in its group: 0 for the one that is kept longest, size − 1 for the first to go.

    Attributes:
        places: for each group a permutation of 0 … size − 1, by unit.
    """

    places: Mapping[str, Sequence[int]]

    @classmethod
    def ascending(cls, sizes: Mapping[str, int]) -> Ranks:
        """The last unit goes first.

        Args:
            sizes: units of each group.
        """
        return cls({name: range(size) for name, size in sizes.items()})

    def with_scores(self, scores: Mapping[str, Tensor]) -> Ranks:
        """New ranks for some groups: the unit of highest score is kept longest; equal ones go from the last to the first.

        Args:
            scores: ``[size]`` for each of these groups.
        """
        orders = {
            name: score.argsort(descending=True, stable=True).argsort().tolist() for name, score in scores.items()
        }
        return Ranks({**self.places, **orders})

    def best(self, widths: Mapping[str, int]) -> dict[str, list[int]]:
        """As many units of each group as ``widths`` says, those that are kept longest, ascending."""
        return {
            name: [unit for unit, place in enumerate(self.places[name]) if place < width]
            for name, width in widths.items()
        }

    def among(self, units: Mapping[str, Sequence[int]]) -> Ranks:
        """The order of some units alone, which are counted anew from 0.

        Args:
            units: of every group, ascending.
        """
        chosen = {name: torch.tensor([self.places[name][unit] for unit in some]) for name, some in units.items()}
        return Ranks({name: places.argsort().argsort().tolist() for name, places in chosen.items()})
