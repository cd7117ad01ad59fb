"""Repair: real widths become whole units within the budget, and the closed units are removed."""

from __future__ import annotations

from functools import partial

from shrinkspeech.budget.widths import repair
from shrinkspeech.fitting.stages.stage import Draft, SingleStep

ATTEMPTS = 5
"""A quantity that has to be measured is aimed at so many times at most."""

NEAR = 0.95
"""A measured amount between this share of the target and the target is good enough."""

CAUTION = 0.99
"""The next attempt aims at this share of what would meet the target if cost and measure were proportional."""

STEEPEST = (0.7, 1.2)
"""One attempt changes the aim by a factor within these limits."""


class Repair(SingleStep):
    """Whole widths near the real ones, at most the target.

    Where the quantity has to be measured (a latency, bytes of a file) the polynomial is only near it: the sliced model is
    measured, and the aim corrected, until the measure is within the target.
    """

    name = "repair"

    def improve(self, draft: Draft) -> Draft:
        part, target = draft.part, self.job.goal.target
        goal = self.job.goal.within(part.widths)
        aim, best = target, None
        for _ in range(ATTEMPTS):
            aim = max(aim, goal.smallest)
            small = part.slice(part.ranks.best(repair(draft.widths, goal, aim)))
            measured = self.job.trainer.team.first(partial(goal.measure, small.captured))
            if measured is None:
                return Draft(small, small.widths, goal.at(small.widths))
            attempt = Draft(small, small.widths, measured)
            best = attempt if best is None else min(best, attempt, key=self.miss)
            if NEAR * target <= measured <= target:
                break
            aim *= min(max(CAUTION * target / measured, STEEPEST[0]), STEEPEST[1])
        assert best is not None
        return best

    def miss(self, attempt: Draft) -> tuple[bool, float]:
        """By what an attempt misses the target; one that is above it misses more than any that is not."""
        target = self.job.goal.target
        return attempt.cost > target, abs(attempt.cost - target)
