"""One goal for all processes: what has to be measured for it, such as a latency, the first process measures."""

from __future__ import annotations

from typing import Any

from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.registry import Quantity
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups

TOLD = "cost full lowest step original target flops doubt".split()


def whole_goal(
    team: Team, kind: type[Quantity], captured: Captured, groups: Groups, seconds: float, round_to: int
) -> Goal:
    """As ``Goal.whole``."""
    made: list[Goal] = []

    def make() -> dict[str, Any]:
        made.append(Goal.whole(kind, captured, groups, seconds, round_to))
        return {name: getattr(made[0], name) for name in TOLD}

    told = team.first(make)
    return made[0] if made else Goal(quantity=kind, **told)
