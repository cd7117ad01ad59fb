"""The registry of operator rules, and what a rule sees (``Site``) and says (``Effect``).

A rule takes the ``Site`` of one node, makes the axes that the operator ties together agree, and returns an
``Effect``: the axes of its outputs, where it reads across channels (a gate stands there), what it costs, which
integer literals of the node follow an axis, and the masked form where an operator mixes channels without a
contraction. Labelling, gating, counting and slicing all read that one record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from shrinkspeech.axes.algebra import ONE, Axes, Axis, Fixed, labels_of, product
from shrinkspeech.axes.unifier import Unifier

Path = tuple[int | str, ...]
"""Where a literal stands: position (or keyword) of the argument, then positions inside lists."""


@dataclass(frozen=True)
class Read:
    """Argument ``node`` is read across the units of its axis ``dim``; ``axis`` is the part that is contracted.

    Where ``dim`` holds more than that, row-major, ``outer`` and ``inner`` stand before and after it: a grouped convolution
    reads the channels inside each group, and treats the groups apart.
    """

    node: fx.Node
    dim: int
    axis: Axis
    outer: Axis = ONE
    inner: Axis = ONE

    def mapped(self, change: Callable[[Axis], Axis]) -> Read:
        """The same read with every axis changed."""
        return Read(self.node, self.dim, change(self.axis), change(self.outer), change(self.inner))


@dataclass(frozen=True)
class Fold:
    """A constant matrix whose dimension ``weight_dim`` meets ``axis`` of a feature: what is removed there can be
    regressed on what stays, and its weights added to the others'.

    ``feature`` is the tensor (``output`` says which, where the node itself returns several), ``dim`` its axis.
    """

    feature: fx.Node
    output: int | None
    dim: int
    axis: Axis
    weight: fx.Node
    weight_dim: int
    bias: fx.Node | None


@dataclass(frozen=True)
class Term:
    """``factor`` × the product of the axes' widths: floating-point operations for the example input."""

    factor: float
    axes: Axes


@dataclass(frozen=True)
class Literal:
    """The integer at ``path`` of the node's arguments is the size of ``axis`` (-1: let torch infer it)."""

    path: Path
    axis: Axis | None


@dataclass(frozen=True)
class Masked:
    """A form of the operator that computes on kept units only.

    ``call(keeps, *args, **kwargs)`` gets one soft keep vector for each of ``axes``.
    """

    call: Callable[..., Any]
    axes: Axes


@dataclass(frozen=True)
class Effect:
    """What one node does, in axes. ``outputs`` has one entry for each tensor that the node returns."""

    outputs: tuple[Axes, ...]
    reads: tuple[Read, ...] = ()
    terms: tuple[Term, ...] = ()
    literals: tuple[Literal, ...] = ()
    masked: Masked | None = None
    folds: tuple[Fold, ...] = ()
    extra: tuple[Term, ...] = ()
    """Costs outside the budget: norms, FFTs."""
    left: Axes = ()
    """Axes that go no further than this node on purpose: the rest of a range, a tensor that is asked for its size alone.
    Any other that enters must be accounted for above, or be frozen."""

    def mapped(self, change: Callable[[Axis], Axis]) -> Effect:
        """The same effect with every axis changed."""
        return Effect(
            outputs=tuple(tuple(map(change, axes)) for axes in self.outputs),
            reads=tuple(read.mapped(change) for read in self.reads),
            terms=tuple(Term(term.factor, tuple(map(change, term.axes))) for term in self.terms),
            literals=tuple(
                Literal(item.path, None if item.axis is None else change(item.axis)) for item in self.literals
            ),
            masked=None if self.masked is None else Masked(self.masked.call, tuple(map(change, self.masked.axes))),
            folds=tuple(replace(fold, axis=change(fold.axis)) for fold in self.folds),
            extra=tuple(Term(term.factor, tuple(map(change, term.axes))) for term in self.extra),
            left=tuple(map(change, self.left)),
        )


@dataclass
class Site:
    """One node under a rule: its arguments, their axes, their sizes for the example input."""

    node: fx.Node
    unifier: Unifier
    axes_of: Callable[[fx.Node], tuple[Axes, ...]]
    shape_of: Callable[[fx.Node], tuple[tuple[int, ...], ...]]
    constant: Callable[[fx.Node], bool]
    value_of: Callable[[fx.Node], Any] = field(default=lambda node: None)
    where: Callable[[fx.Node], str] = field(default=lambda node: node.name)

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        """Argument by position or keyword."""
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def path(self, position: int, name: str) -> Path:
        """Where the argument stands in this node: by position or by keyword."""
        return (position,) if len(self.node.args) > position else (name,)

    def axes(self, node: Any) -> Axes:
        """Axes of an argument (of its only tensor); none for a plain number."""
        if not isinstance(node, fx.Node):
            return ()
        return tuple(self.unifier.resolve(axis) for axis in self.axes_of(node)[0])

    def shape(self, node: fx.Node | None = None) -> tuple[int, ...]:
        """Sizes of an argument's, or of the node's own, first tensor for the example input."""
        return self.shape_of(node or self.node)[0]

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of every tensor that the node returns."""
        return self.shape_of(self.node)

    def number(self, value: Any) -> Any:
        """An integer argument, looked up where it is computed in the graph (a dynamic size)."""
        return self.value_of(value) if isinstance(value, fx.Node) else value

    def sized(self, size: Any, extent: int) -> Axis:
        """The axis that a dynamic size is the size of: what is made in that size shrinks with it."""
        if isinstance(size, fx.Node) and size.target is torch.ops.aten.sym_size.int:
            return self.axes(size.args[0])[int(size.args[1])]  # type: ignore[arg-type]
        return Fixed(extent)

    @property
    def why(self) -> str:
        return f"{self.node.target} ties sizes that cannot be matched"

    def unify(self, a: Axis, b: Axis) -> None:
        """Make two axes the same one; where that cannot be, both are frozen."""
        if a != b:
            self.unifier.unify(a, b, f"{self.why} ({self.where(self.node)})")

    def freeze(self, axis: Axis, why: str) -> None:
        """Forbid removing any unit of ``axis``; the user's module and line are added to the reason."""
        if any(True for _ in labels_of(axis)):
            self.unifier.freeze(axis, f"{why} ({self.where(self.node)})")

    def at_least(self, axes: Sequence[Axis], count: int) -> None:
        """Demand that ``count`` elements of all ``axes`` together stay."""
        self.unifier.at_least(product(*axes), count)

    def fixed(self, shape: Sequence[int], why: str = "") -> Axes:
        return tuple(Fixed(size, why) for size in shape)


class NoRule(Exception):
    """Raised by a rule that does not know the form of its operator: the node is treated as one without a rule."""


Rule = Callable[[Site], Effect]
_RULES: dict[Any, Rule] = {}


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Register a rule for operators (``OpOverload`` or function). A second rule for one operator raises."""

    def register(function: Rule) -> Rule:
        for target in targets:
            if target in _RULES:
                raise ValueError(f"{target} has a rule already ({_RULES[target].__name__})")
            _RULES[target] = function
        return function

    return register


def rule_for(target: Any) -> Rule | None:
    """The rule of an operator, or None: then the labeller freezes what the node touches."""
    return _RULES.get(target)


def registered() -> dict[Any, Rule]:
    """Every operator that has a rule."""
    return dict(_RULES)
