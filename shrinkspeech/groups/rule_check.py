"""What no rule may say: sizes that torch denies, and an axis that is lost on the way through a node.

The third law: every label that enters a node leaves it, is read (a gate stands there), is masked, is followed by a
literal, is frozen, or is left behind on purpose (``Effect.left``). A rule that forgets an argument would else slice
one side of what the operator ties together, in silence.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import fx

from shrinkspeech.axes.algebra import Axes, Axis, Label, labels_of
from shrinkspeech.axes.unifier import Unifier
from shrinkspeech.errors import RuleError
from shrinkspeech.rules.registry import Effect


def check_sizes(node: fx.Node, effect: Effect, shapes: Sequence[Sequence[int]], where: str) -> None:
    """Every tensor that the node returns is labelled, in the sizes that torch gives it.

    Raises:
        RuleError: the rule says otherwise.
    """
    if not shapes or (node.target is operator.getitem and not isinstance(shapes[0], tuple)):
        return
    said = [tuple(axis.size for axis in axes) for axes in effect.outputs]
    if said != [tuple(shape) for shape in shapes]:
        raise RuleError(
            f"the rule of {node.target} says sizes {said} for {node.name} ({where}), torch says {list(shapes)}: "
            f"mend the rule (docs/rules.md)"
        )


def check_nothing_lost(
    node: fx.Node, effect: Effect, entering: Mapping[fx.Node, Sequence[Axes]], unifier: Unifier, where: str
) -> None:
    """The third law for one node.

    Args:
        entering: axes of every tensor of each argument, as they were before the rule ran.

    Raises:
        RuleError: a label enters the node and is never heard of again.
    """
    known = {label.id for axis in _accounted(effect) for label in labels_of(unifier.resolve(axis))}
    for source, tensors in entering.items():
        for dim, axis in ((dim, axis) for axes in tensors for dim, axis in enumerate(axes)):
            for label in labels_of(unifier.resolve(axis)):
                if label.id not in known and unifier.frozen(label) is None:
                    raise RuleError(_lost(node, source, dim, label, where))


def _accounted(effect: Effect) -> Iterator[Axis]:
    """Every axis of which the rule says what becomes of it."""
    parts: Iterable[Axes] = (
        *effect.outputs,
        tuple(read.axis for read in effect.reads),
        () if effect.masked is None else effect.masked.axes,
        tuple(literal.axis for literal in effect.literals if literal.axis is not None),
        effect.left,
    )
    for axes in parts:
        yield from axes


def _lost(node: fx.Node, source: fx.Node, dim: int, label: Label, where: str) -> str:
    return (
        f"the rule of {node.target} loses an axis at {node.name} ({where}): the {label.size} units on axis {dim} of its "
        f"argument {source.name} do not leave the node, and are not read, masked, followed by a literal or frozen. Let the "
        f"rule say what becomes of them, or name them in Effect.left if they may go (docs/rules.md)"
    )
