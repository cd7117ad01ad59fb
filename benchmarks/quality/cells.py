"""Rows put together: all seeds of one model, method and budget."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.quality.cases import Case

LONG = "ours, as long as scratch"


@dataclass(frozen=True)
class Cell:
    """All seeds of one model, method and budget."""

    values: tuple[float, ...]
    shares: tuple[float, ...]
    rows: tuple[dict[str, str], ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else float("nan")

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.mean:.2f} (1)"
        return f"{self.mean:.2f} ± {self.deviation:.2f} ({len(self.values)})"


Cells = dict[tuple[str, str, str], Cell]


def cells(found: Sequence[dict[str, str]], lengths: Mapping[str, int] | None = None) -> Cells:
    """Rows by model, method and budget; one number of steps and one rate for each model: the ones of its recipe.

    Fits of ours with as many steps as training from scratch gets are a method of their own.

    Args:
        lengths: other numbers of steps, by model; models without one are left out.
    """
    groups: dict[tuple[str, str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    for row in found:
        recipe, method = Case(row["model"]).recipe, row["method"]
        steps = recipe.STEPS if lengths is None else lengths.get(row["model"], 0)
        own, long = ((str(number), str(recipe.RATE)) for number in (steps, steps + recipe.TRAINED))
        if method == "ours" and (row["steps"], row["rate"]) == long:
            groups[row["model"], LONG, row["budget"]][row["seed"]] = row
        elif method == "original" or (row["steps"], row["rate"]) == own:
            groups[row["model"], method, row["budget"]][row["seed"]] = row
    return {
        key: Cell(
            tuple(float(row["value"]) for row in seeds.values()),
            tuple(float(row["share"]) for row in seeds.values()),
            tuple(seeds.values()),
        )
        for key, seeds in groups.items()
    }
