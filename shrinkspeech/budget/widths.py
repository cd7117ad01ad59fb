"""Widths that meet a goal: the same share of every group, real widths at a given cost, and the repair to whole units."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shrinkspeech.budget.goal import Goal


def uniform(goal: Goal, amount: float) -> dict[str, int]:
    """The same share of every group, as large as the amount allows."""

    def widths(share: float) -> dict[str, int]:
        return {name: goal.snap(name, max(share * size, goal.step[name])) for name, size in goal.full.items()}

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if goal.at(widths(middle)) <= amount else (low, middle)
    return widths(1.0) if goal.at(goal.full) <= amount else widths(low)


def rescale(logs: Mapping[str, float], goal: Goal, amount: float) -> dict[str, float]:
    """Real widths exp(log K + s), clamped, with one shift s so that the cost is the amount."""

    def widths(shift: float) -> dict[str, float]:
        return {
            name: min(max(math.exp(value + shift), goal.lowest[name]), goal.full[name]) for name, value in logs.items()
        }

    low, high = -12.0, 12.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if goal.at(widths(middle)) <= amount else (low, middle)
    return widths(low)


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
    """Grow the group that is furthest below its real width, as long as anything fits."""
    while True:
        larger = {name: goal.above(name, width) for name, width in widths.items() if width < goal.full[name]}
        fits = [name for name, width in larger.items() if goal.at({**widths, name: width}) <= amount]
        if not fits:
            return
        name = max(fits, key=lambda n: real[n] / max(widths[n], 0.5))
        widths[name] = larger[name]


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
