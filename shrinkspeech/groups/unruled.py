"""Operators without a rule, and what each of them keeps from shrinking."""

from __future__ import annotations

from dataclasses import dataclass

from shrinkspeech.axes.algebra import labels_of
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import Cost
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import no_rule


@dataclass(frozen=True)
class Unruled:
    """An operator without a rule.

    Attributes:
        where: the user's module and line.
        groups: how many groups it freezes. One that is frozen by several counts for the first of them.
        channels: how many units these groups have.
        share: of the FLOP/s, in operations that any of these groups takes part in.
    """

    operator: str
    where: str
    groups: int
    channels: int
    share: float


def unruled(captured: Captured, groups: Groups, cost: Cost) -> tuple[Unruled, ...]:
    """The operators without a rule of a labelled graph, each place once."""
    nodes = {node.name: node for node in captured.graph_module.graph.nodes}
    places = dict.fromkeys((operator, captured.where(nodes[name])) for name, operator in groups.unknown.items())
    return tuple(_held_by(operator, where, groups, cost) for operator, where in places)


def _held_by(operator: str, where: str, groups: Groups, cost: Cost) -> Unruled:
    held = {group.label: group.size for group in groups if group.frozen == no_rule(operator, where)}
    takes_part = [
        name
        for name, effect in groups.effects.items()
        if any(label in held for term in effect.terms for axis in term.axes for label in labels_of(axis))
    ]
    spent = sum(cost.nodes[name].at(cost.full) for name in takes_part)
    return Unruled(operator, where, len(held), sum(held.values()), spent / cost.original if cost.original else 0.0)
