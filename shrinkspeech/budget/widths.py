"""Budgets: reading ``25%`` and ``600k``, widths that meet a budget, and the repair to whole units."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shrinkspeech.errors import BudgetError
from shrinkspeech.groups.cost import Polynomial
from shrinkspeech.groups.groups import Groups

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Budget:
    """A budget as the user wrote it: a share of the original, or an amount (FLOP/s, parameters)."""

    text: str
    value: float
    relative: bool

    def resolve(self, original: float, text: Callable[[float], str] | None = None) -> float:
        """The budget as an amount.

        Args:
            text: writes an amount, for the message.

        Raises:
            BudgetError: it is above what the original costs.
        """
        amount = self.value * original if self.relative else self.value
        if amount > original * (1 + 1e-9):
            known = (text or human)(original)
            raise BudgetError(f"the target {self.text} is above the original's {known}: nothing has to shrink")
        return amount


def parse_budget(text: str | float) -> Budget:
    """Read ``25%``, ``0.25x``, ``600k``, ``1.2M`` or a plain number of FLOP/s.

    Raises:
        BudgetError: the text is none of these, or not positive.
    """
    given = str(text).strip()
    found = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|x|[kKmMgGtT]?)", given)
    if not found or float(found[1]) <= 0:
        raise BudgetError(f"cannot read the target '{given}': write a share (25% or 0.25x) or an amount (600k, 1.2M)")
    number, unit = float(found[1]), found[2]
    if unit in ("%", "x"):
        return Budget(given, number / 100 if unit == "%" else number, True)
    return Budget(given, number * UNITS[unit.lower()], False)


def human(amount: float) -> str:
    """``24.4M``: three significant digits and a unit."""
    amount = float(f"{amount:.3g}")
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g}{unit}"
    return f"{amount:.3g}"


@dataclass(frozen=True)
class Space:
    """The integer widths that may be chosen: for each group its limits and its divisor, and what they cost."""

    cost: Polynomial
    full: Mapping[str, int]
    lowest: Mapping[str, int]
    step: Mapping[str, int]

    def at(self, widths: Mapping[str, float]) -> float:
        return self.cost.at(widths)

    @property
    def smallest(self) -> float:
        """Cost of the smallest model."""
        return self.at(self.lowest)

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


def space(groups: Groups, cost: Polynomial, full: Mapping[str, int], round_to: int = 1) -> Space:
    """The widths that a fit may choose.

    Args:
        full: the size of every group, also of those that may not shrink.
        round_to: widths are multiples of this where the group is larger.
    """
    names = [group.name for group in groups.shrinkable]
    step = {name: round_to if groups[name].size > round_to else 1 for name in names}
    lowest = {
        name: min(groups[name].size, math.ceil(groups[name].min_width / step[name]) * step[name]) for name in names
    }
    return Space(cost, {name: full[name] for name in names}, lowest, step)


def uniform(choice: Space, target: float) -> dict[str, int]:
    """The same share of every group, as large as the budget allows."""

    def widths(share: float) -> dict[str, int]:
        return {name: choice.snap(name, max(share * size, choice.step[name])) for name, size in choice.full.items()}

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if choice.at(widths(middle)) <= target else (low, middle)
    return widths(1.0) if choice.at(choice.full) <= target else widths(low)


def flops_text(amount: float) -> str:
    """``24.4M FLOP/s``."""
    return f"{human(amount)} FLOP/s"


def reach(choice: Space, target: float, text: Callable[[float], str] = flops_text) -> None:
    """Refuse a budget that no widths can meet.

    Args:
        text: writes an amount with its unit, for the message.

    Raises:
        BudgetError: the smallest model costs more; the message says how much.
    """
    if choice.smallest > target:
        share = 100 * choice.smallest / choice.at(choice.full)
        raise BudgetError(
            f"the target {text(target)} cannot be reached: with every group at its smallest width the model "
            f"costs {text(choice.smallest)} ({share:.2f}% of the original)"
        )


def shifted(logs: Mapping[str, float], choice: Space, target: float) -> dict[str, float]:
    """Real widths exp(log K + s), clamped, with one shift s so that the cost is the target."""

    def widths(shift: float) -> dict[str, float]:
        return {
            name: min(max(math.exp(value + shift), choice.lowest[name]), choice.full[name])
            for name, value in logs.items()
        }

    low, high = -12.0, 12.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if choice.at(widths(middle)) <= target else (low, middle)
    return widths(low)


def repair(real: Mapping[str, float], choice: Space, target: float) -> dict[str, int]:
    """Whole widths near the real ones that cost at most the target and waste little of it.

    Rounds down, then spends what is left where a group lies furthest below its real width, then trades single steps
    between two groups while that comes closer to the target.
    """
    widths = {name: choice.snap(name, value) for name, value in real.items()}
    while choice.at(widths) > target:
        name = max((n for n in widths if widths[n] > choice.lowest[n]), key=lambda n: widths[n] / max(real[n], 1e-9))
        widths[name] = choice.below(name, widths[name])
    _spend(widths, real, choice, target)
    for _ in range(60):
        if choice.at(widths) >= 0.995 * target or not _trade(widths, choice, target):
            break
        _spend(widths, real, choice, target)
    return widths


def _spend(widths: dict[str, int], real: Mapping[str, float], choice: Space, target: float) -> None:
    """Grow the group that is furthest below its real width, as long as anything fits."""
    while True:
        larger = {name: choice.above(name, width) for name, width in widths.items() if width < choice.full[name]}
        fits = [name for name, width in larger.items() if choice.at({**widths, name: width}) <= target]
        if not fits:
            return
        name = max(fits, key=lambda n: real[n] / max(widths[n], 0.5))
        widths[name] = larger[name]


def _trade(widths: dict[str, int], choice: Space, target: float) -> bool:
    """One step less in one group for one step more in another, where that comes closest to the target."""
    now = choice.at(widths)
    best, gain = None, 1e-4 * target
    moves: Callable[[str], bool] = lambda name: widths[name] > choice.lowest[name]  # noqa: E731
    for down in filter(moves, widths):
        for up in widths:
            if up == down or widths[up] == choice.full[up]:
                continue
            trial = {**widths, down: choice.below(down, widths[down]), up: choice.above(up, widths[up])}
            value = choice.at(trial)
            if value <= target and value - now > gain:
                best, gain = trial, value - now
    if best is None:
        return False
    widths.update(best)
    return True
