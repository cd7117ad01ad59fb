"""Widths that meet a goal: the same share of every group, real widths at a given cost, and the repair to whole units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from shrinkspeech.budget.goal import Goal


def uniform(goal: Goal, amount: float) -> dict[str, int]:
    """The same share of every group, as large as the amount allows; more of those that have no part in what limits it."""

    def width(name: str, share: float) -> int:
        size = goal.full[name]
        return goal.snap(name, max(share * size, goal.step[name]))

    return raised(goal, amount, width, (0.0, 1.0), 1.0, 40)


def rescale(logs: Mapping[str, float], goal: Goal, amount: float) -> dict[str, float]:
    """Real widths exp(log K + s), clamped, with one shift s so that the cost is the amount.

    Groups that have no part in what limits the cost are not made narrower.
    """

    def width(name: str, shift: float) -> float:
        return min(max(math.exp(logs[name] + shift), goal.lowest[name]), goal.full[name])

    return raised(goal, amount, width, (-12.0, 12.0), 0.0, 50)


W = TypeVar("W", int, float)


def raised(
    goal: Goal, amount: float, width: Callable[[str, float], W], span: tuple[float, float], top: float, halvings: int
) -> dict[str, W]:
    """Widths at the highest level that the amount allows.

    What limits a polynomial is all of its groups. The largest of several polynomials is limited by some of them: the
    groups of the others are raised further, until they are limited too.

    Args:
        width: of a group, at a level.
        span: the lowest and the highest level.
        top: the highest level for the groups that are raised further.
    """

    def widths(level: float, rising: Iterable[str], others: Mapping[str, W]) -> dict[str, W]:
        return {**others, **{name: width(name, level) for name in rising}}

    found: dict[str, W] = {}
    rising, (low, high) = set(goal.full), span
    while rising:
        names = [name for name in goal.full if name in rising]
        if goal.at(widths(high, names, found)) <= amount:
            return widths(high, names, found)
        for _ in range(halvings):
            middle = (low + high) / 2
            low, high = (middle, high) if goal.at(widths(middle, names, found)) <= amount else (low, middle)
        limited = goal.cost.exceeding(widths(high, names, found), amount) & rising
        found = widths(low, names, found)
        rising = rising - limited if limited else set()
        high = max(low, top)
    return found


def repair(real: Mapping[str, float], goal: Goal, amount: float) -> dict[str, int]:
    """Whole widths near the real ones that cost at most the amount and waste little of it.

    Rounds down, then spends what is left where a group lies furthest below its real width, then trades single steps
    between two groups while that comes closer to the amount.
    """
    widths = {name: goal.snap(name, value) for name, value in real.items()}
    while goal.at(widths) > amount:
        name = max((n for n in widths if widths[n] > goal.lowest[n]), key=lambda n: widths[n] / max(real[n], 1e-9))
        widths[name] = goal.below(name, widths[name])
    _spend(widths, real, goal, amount)
    for _ in range(60):
        if goal.at(widths) >= 0.995 * amount or not _trade(widths, goal, amount):
            break
        _spend(widths, real, goal, amount)
    return widths


def _spend(widths: dict[str, int], real: Mapping[str, float], goal: Goal, amount: float) -> None:
    """Grow the group that is furthest below its real width, as long as anything fits; at once where that costs nothing."""
    while True:
        larger = {name: goal.above(name, width) for name, width in widths.items() if width < goal.full[name]}
        fits = [name for name, width in larger.items() if goal.at({**widths, name: width}) <= amount]
        if not fits:
            return
        name = max(fits, key=lambda n: real[n] / max(widths[n], 0.5))
        whole = {**widths, name: goal.full[name]}
        widths[name] = goal.full[name] if goal.at(whole) <= goal.at(widths) else larger[name]


def _trade(widths: dict[str, int], goal: Goal, amount: float) -> bool:
    """One step less in one group for one step more in another, where that comes closest to the amount."""
    now = goal.at(widths)
    best, gain = None, 1e-4 * amount
    shrinking = [name for name, width in widths.items() if width > goal.lowest[name]]
    growing = [name for name, width in widths.items() if width < goal.full[name]]
    for down in shrinking:
        for up in growing:
            if up == down:
                continue
            trial = {**widths, down: goal.below(down, widths[down]), up: goal.above(up, widths[up])}
            value = goal.at(trial)
            if value <= amount and value - now > gain:
                best, gain = trial, value - now
    if best is None:
        return False
    widths.update(best)
    return True
