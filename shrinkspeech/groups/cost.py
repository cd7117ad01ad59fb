"""Cost: floating-point operations as a polynomial in the widths of the groups, exact at integers.

A contraction costs 2 × the product of the widths of its letters; an axis is a sum of products of group widths, so the
whole cost is Σ c · ∏ K_g. The polynomial is evaluated on integers, floats or differentiable tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shrinkspeech.axes.algebra import Axis, Fixed, Label, Product, Sum
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Term

Monomial = tuple[str, ...]
"""Sorted group names, repeated for powers; empty for a constant."""


@dataclass(frozen=True)
class Polynomial:
    """Σ c · ∏ K_g, with K_g the width of group g."""

    terms: Mapping[Monomial, float]

    def __add__(self, other: Polynomial) -> Polynomial:
        result = dict(self.terms)
        for key, value in other.terms.items():
            result[key] = result.get(key, 0.0) + value
        return Polynomial(result)

    def __mul__(self, other: Polynomial) -> Polynomial:
        result: dict[Monomial, float] = {}
        for a, x in self.terms.items():
            for b, y in other.terms.items():
                key = tuple(sorted(a + b))
                result[key] = result.get(key, 0.0) + x * y
        return Polynomial(result)

    def scale(self, factor: float) -> Polynomial:
        return Polynomial({key: value * factor for key, value in self.terms.items()})

    def at(self, widths: Mapping[str, float]) -> float:
        """The value at integer or real widths."""
        return sum(value * math.prod(widths[name] for name in key) for key, value in self.terms.items())

    def fix(self, known: Mapping[str, float]) -> Polynomial:
        """The polynomial with numbers in the place of some widths."""
        result: dict[Monomial, float] = {}
        for key, value in self.terms.items():
            rest = tuple(name for name in key if name not in known)
            factor = math.prod(known[name] for name in key if name in known)
            result[rest] = result.get(rest, 0.0) + value * factor
        return Polynomial(result)

    def exceeding(self, widths: Mapping[str, float], amount: float) -> frozenset[str]:
        """The groups that would have to shrink for the value not to be above ``amount``."""
        return self.names if self.at(widths) > amount else frozenset()

    def involves(self, name: str) -> bool:
        return name in self.names

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(name for key in self.terms for name in key)


@dataclass(frozen=True)
class Maximum:
    """The largest of several polynomials without negative factors: what is needed at the worst of several moments."""

    parts: tuple[Polynomial, ...]

    @classmethod
    def of(cls, parts: Iterable[Polynomial]) -> Maximum:
        """Without the parts that are nowhere above another one."""
        kept: list[Polynomial] = []
        for part in sorted(parts, key=lambda part: -sum(part.terms.values())):  # none is below a later one
            if not any(_below(part, other) for other in kept):
                kept.append(part)
        return cls(tuple(kept) or (ZERO,))

    def at(self, widths: Mapping[str, float]) -> float:
        """The value at integer or real widths."""
        return max(part.at(widths) for part in self.parts)

    def fix(self, known: Mapping[str, float]) -> Maximum:
        """The maximum with numbers in the place of some widths."""
        return Maximum.of([part.fix(known) for part in self.parts])

    def exceeding(self, widths: Mapping[str, float], amount: float) -> frozenset[str]:
        """The groups that would have to shrink for the value not to be above ``amount``."""
        return frozenset[str]().union(*(part.exceeding(widths, amount) for part in self.parts))


Expression = Polynomial | Maximum
"""What a quantity is at any widths."""


def _below(part: Polynomial, other: Polynomial) -> bool:
    """Whether no width whatever makes a part larger than another."""
    return all(value <= other.terms.get(key, 0.0) for key, value in part.terms.items())


ZERO = Polynomial({})
ONE = Polynomial({(): 1.0})


def polynomial(axis: Axis, groups: Groups) -> Polynomial:
    """The width of an axis; a group that may not shrink counts as the number that it is."""
    match axis:
        case Fixed(size=size):
            return Polynomial({(): float(size)})
        case Label(size=size):
            group = groups.of(axis)
            return Polynomial({(group.name,): 1.0}) if group.shrinkable else Polynomial({(): float(size)})
        case Product(factors=parts):
            return _product([polynomial(part, groups) for part in parts])
        case Sum(terms=parts):
            return _sum([polynomial(part, groups) for part in parts])


def _product(parts: list[Polynomial]) -> Polynomial:
    result = ONE
    for part in parts:
        result = result * part
    return result


def _sum(parts: list[Polynomial]) -> Polynomial:
    result = ZERO
    for part in parts:
        result = result + part
    return result


def _terms(terms: tuple[Term, ...], groups: Groups, scale: float) -> Polynomial:
    return _sum(
        [_product([polynomial(axis, groups) for axis in term.axes]).scale(term.factor * scale) for term in terms]
    )


@dataclass(frozen=True)
class Cost:
    """FLOP/s of a labelled graph: for each node, and in all.

    Norms and Fourier transforms stand in ``extra`` and are not part of the budget.

    Attributes:
        full: the size of every group.
        lowest: the smallest width of every group; its size where it may not shrink.
    """

    nodes: Mapping[str, Polynomial]
    extra: Mapping[str, Polynomial]
    full: Mapping[str, int]
    lowest: Mapping[str, int]

    @cached_property
    def total(self) -> Polynomial:
        return _sum(list(self.nodes.values()))

    @property
    def original(self) -> float:
        """FLOP/s of the unshrunk model."""
        return self.total.at(self.full)

    def at(self, widths: Mapping[str, float]) -> float:
        """FLOP/s at the given widths; a group that is not named is whole."""
        return self.total.at({**self.full, **widths})

    def alone(self, name: str) -> float:
        """Share of the original cost that goes with one group at its smallest width and all others whole.

        An operation between two groups counts for either, so that these shares add up to more than ``removable_share``.
        """
        return self._saved({name: self.lowest[name]})

    @property
    def removable_share(self) -> float:
        """Share of the original cost that goes with every group at its smallest width."""
        return self._saved(self.lowest)

    def _saved(self, widths: Mapping[str, float]) -> float:
        return 1.0 - self.at(widths) / self.original if self.original else 0.0

    def share(self, name: str) -> float:
        """Share of the original cost in operations that the group takes part in."""
        part = sum(p.at(self.full) for p in self.nodes.values() if p.involves(name))
        return part / self.original if self.original else 0.0

    @property
    def shrinkable_share(self) -> float:
        """Share of the original cost in operations that any group takes part in."""
        fixed = sum(p.terms.get((), 0.0) for p in self.nodes.values())
        return 1.0 - fixed / self.original if self.original else 0.0


def count(captured: Captured, groups: Groups, seconds: float = 1.0) -> Cost:
    """The cost of a labelled graph.

    Args:
        seconds: audio that one item of the example batch holds, in s.
    """
    scale = 1.0 / (seconds * captured.batch)
    return Cost(
        nodes={name: _terms(effect.terms, groups, scale) for name, effect in groups.effects.items() if effect.terms},
        extra={name: _terms(effect.extra, groups, scale) for name, effect in groups.effects.items() if effect.extra},
        full={group.name: group.size for group in groups},
        lowest={group.name: group.min_width if group.shrinkable else group.size for group in groups},
    )


class DifferentiableCost:
    """A polynomial, or the largest of several, as one tensor expression: ``F(K)`` in float64, for the fit loop."""

    def __init__(self, cost: Expression, names: list[str]) -> None:
        parts = cost.parts if isinstance(cost, Maximum) else (cost,)
        self.parts = [_tensors(part, names) for part in parts]

    def __call__(self, widths: Tensor) -> Tensor:
        """The value at real widths ``[groups]``, in the order of ``names``."""
        widths = widths.double()
        extended = torch.cat([widths, widths.new_ones(1)])
        values = [
            extended[index.to(widths.device)].prod(dim=1) @ factors.to(widths.device) for index, factors in self.parts
        ]
        return torch.stack(values).amax()


def _tensors(part: Polynomial, names: list[str]) -> tuple[Tensor, Tensor]:
    """Positions in ``names`` of the factors of each term ``[terms, degree]``, filled up with one more, and ``[terms]``."""
    position = {name: i for i, name in enumerate(names)}
    terms = list(part.terms.items())
    degree = max([len(key) for key, _ in terms] + [1])
    rows = [[position[name] for name in key] + [len(names)] * (degree - len(key)) for key, _ in terms]
    index = torch.tensor(rows or [[len(names)]])
    return index, torch.tensor([value for _, value in terms] or [0.0], dtype=torch.float64)
