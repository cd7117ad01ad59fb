"""What a fit works towards: which whole widths there are to choose from, what they cost, and what they may cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from shrinkspeech.budget.registry import Quantity, Target
from shrinkspeech.errors import BudgetError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import Expression, Polynomial, count
from shrinkspeech.groups.groups import Groups


def no_measure(small: Captured) -> None:
    """There is nothing to measure where the cost is exact."""


@dataclass(frozen=True)
class Goal:
    """Whole widths whose cost is at most ``target``.

    Attributes:
        quantity: what is limited.
        cost: the quantity at any widths, a polynomial or the largest of several; for a latency a model of it.
        full: the size of every group that may shrink.
        lowest: the smallest width of each.
        step: the number that its width is a multiple of; the whole group is always allowed.
        original: the quantity of the whole model.
        target: the amount that must not be exceeded.
        flops: FLOP/s at any widths, for reports.
        measure: the quantity of a sliced model, where the cost is only near it; None where it is exact.
        doubt: why an amount of it would be that of something else, in a sentence; shares hold all the same.
    """

    quantity: type[Quantity]
    cost: Expression
    full: Mapping[str, int]
    lowest: Mapping[str, int]
    step: Mapping[str, int]
    original: float
    target: float
    flops: Polynomial
    measure: Callable[[Captured], float | None] = no_measure
    doubt: str = ""

    @classmethod
    def whole(
        cls, kind: type[Quantity], captured: Captured, groups: Groups, seconds: float = 1.0, round_to: int = 1
    ) -> Goal:
        """The goal of keeping everything, from which ``towards`` leads to a target; a latency takes some measuring.

        Args:
            seconds: audio that one item of the example batch holds, in s.
            round_to: widths are multiples of this where the group is larger.

        Raises:
            ExportError: the quantity is measured in an ONNX file, and the model cannot be written as one.
        """
        quantity, free = kind(captured, groups, seconds), groups.shrinkable
        step = {group.name: round_to if group.size > round_to else 1 for group in free}
        return cls(
            quantity=kind,
            cost=quantity.cost(),
            full=quantity.full,
            lowest={g.name: min(g.size, math.ceil(g.min_width / step[g.name]) * step[g.name]) for g in free},
            step=step,
            original=quantity.original,
            target=quantity.original,
            flops=count(captured, groups, seconds).total,
            measure=quantity.measure,
            doubt=captured.time_first if kind.per_item else "",
        )

    def towards(self, target: Target) -> Goal:
        """The goal of a target.

        Raises:
            BudgetError: it is above the original, or the smallest model costs more; the message says how much. Or it is an
                amount, and the model's batch is not where it is looked for.
        """
        if self.doubt and not target.relative:
            raise BudgetError(
                f"the target {target.text} cannot be promised: {self.doubt}, or give a share, such as 25%"
            )
        goal, text = replace(self, target=target.amount(self.original)), self.quantity.text
        if goal.smallest > goal.target:
            number = re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", target.text)
            raise BudgetError(
                f"the target {text(goal.target)} cannot be reached: with every group at its smallest width the model "
                f"costs {text(goal.smallest)} ({100 * goal.smallest / goal.at(goal.full):.2f}% of the original)"
                + (f"; did you mean {target.text}%?" if number else "")
            )
        return goal

    # -- costs ----------------------------------------------------------------------------------------------------

    def at(self, widths: Mapping[str, float]) -> float:
        """The cost of widths, real or whole."""
        return self.cost.at(widths)

    @property
    def smallest(self) -> float:
        """Cost of the smallest model."""
        return self.at(self.lowest)

    # -- widths ---------------------------------------------------------------------------------------------------

    def snap(self, name: str, width: float) -> int:
        """The largest allowed width that is not above ``width``; the whole group is always allowed."""
        full, step = self.full[name], self.step[name]
        if width >= full:
            return full
        return max(self.lowest[name], int(width + 1e-9) // step * step)

    def above(self, name: str, width: int) -> int:
        """The next allowed width."""
        step = self.step[name]
        return min(self.full[name], (width // step + 1) * step)

    def below(self, name: str, width: int) -> int:
        """The allowed width before this one."""
        step = self.step[name]
        return max(self.lowest[name], (width - 1) // step * step)

    # -- parts ----------------------------------------------------------------------------------------------------

    def within(self, widths: Mapping[str, int]) -> Goal:
        """The same goal for a part of the model in which each group has only so many units left."""
        return replace(self, full={name: min(size, widths[name]) for name, size in self.full.items()})

    def among(self, names: Collection[str]) -> Goal:
        """The same goal where only these groups may change and the others are whole."""
        others = {name: size for name, size in self.full.items() if name not in names}
        return replace(self, cost=self.cost.fix(others), full={name: self.full[name] for name in names})
