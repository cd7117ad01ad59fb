"""The algebra of axes: what one position of a tensor's shape holds.

An axis is a ``Label`` (channels of one group), ``Fixed`` (not ours to change), a ``Product`` (one axis that
holds several, row-major) or a ``Sum`` (one axis that holds several side by side). Whatever is read from an axis is
an evaluation of its expression. This file knows no tensor library and no model: it computes with whatever numbers
it is given. ``unifier.py`` makes axes agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Fixed:
    """``size`` elements that nobody may remove; ``why`` names the reason and takes no part in equality."""

    size: int
    why: str = field(default="", compare=False)


ONE = Fixed(1)


@dataclass(frozen=True)
class Label:
    """``size`` units that live or die together with every other axis that carries ``id``."""

    id: int
    size: int


@dataclass(frozen=True)
class Product:
    """One axis that holds the factors, row-major: the last factor varies fastest."""

    factors: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return math.prod(factor.size for factor in self.factors)


@dataclass(frozen=True)
class Sum:
    """One axis that holds the terms side by side."""

    terms: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


Axis = Fixed | Label | Product | Sum
Axes = tuple[Axis, ...]


def product(*factors: Axis) -> Axis:
    """The product in normal form: nested products flattened, ones dropped, neighbouring ``Fixed`` merged."""
    flat: list[Axis] = []
    for factor in _flatten(factors, Product):
        if isinstance(factor, Fixed) and flat and isinstance(flat[-1], Fixed):
            flat[-1] = Fixed(flat[-1].size * factor.size, flat[-1].why or factor.why)
        elif factor.size != 1 or not isinstance(factor, Fixed):
            flat.append(factor)
    if not flat:
        return Fixed(1)
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def concat(*terms: Axis) -> Axis:
    """The sum in normal form: nested sums flattened, zeros dropped, neighbouring ``Fixed`` merged."""
    flat: list[Axis] = []
    for term in _flatten(terms, Sum):
        if isinstance(term, Fixed) and flat and isinstance(flat[-1], Fixed):
            flat[-1] = Fixed(flat[-1].size + term.size, flat[-1].why or term.why)
        elif term.size != 0 or not isinstance(term, Fixed):
            flat.append(term)
    if not flat:
        return Fixed(0)
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


def _flatten(parts: Iterable[Axis], kind: type[Product] | type[Sum]) -> Iterator[Axis]:
    for part in parts:
        if isinstance(part, Product) and kind is Product:
            yield from part.factors
        elif isinstance(part, Sum) and kind is Sum:
            yield from part.terms
        else:
            yield part


def factors_of(axis: Axis) -> tuple[Axis, ...]:
    return axis.factors if isinstance(axis, Product) else (axis,)


def terms_of(axis: Axis) -> tuple[Axis, ...]:
    return axis.terms if isinstance(axis, Sum) else (axis,)


def labels_of(axis: Axis) -> Iterator[Label]:
    """Every label in ``axis``, left to right, repeated where it occurs again."""
    match axis:
        case Label():
            yield axis
        case Product(factors=parts) | Sum(terms=parts):
            for part in parts:
                yield from labels_of(part)


def evaluate(
    axis: Axis,
    label: Callable[[Label], T],
    fixed: Callable[[int], T],
    times: Callable[[T, T], T],
    plus: Callable[[Sequence[T]], T],
) -> T:
    """Fold ``axis`` to a value: everything that is read from an axis is one such evaluation."""
    match axis:
        case Label():
            return label(axis)
        case Fixed(size=size):
            return fixed(size)
        case Product(factors=parts):
            values = [evaluate(part, label, fixed, times, plus) for part in parts]
            result = values[0]
            for value in values[1:]:
                result = times(result, value)
            return result
        case Sum(terms=parts):
            return plus([evaluate(part, label, fixed, times, plus) for part in parts])


def width(axis: Axis, widths: Callable[[Label], Any]) -> Any:
    """The number of elements kept on ``axis`` where each label keeps ``widths(label)``: an int, a float or a
    differentiable scalar (anything with + and *)."""
    return evaluate(axis, widths, lambda size: size, lambda a, b: a * b, lambda parts: sum(parts[1:], parts[0]))


def kept_index(axis: Axis, kept: Callable[[Label], Sequence[int]]) -> list[int]:
    """Positions of ``axis`` that remain, ascending within each part, where each label keeps the units ``kept(label)``."""
    match axis:
        case Label():
            return list(kept(axis))
        case Fixed(size=size):
            return list(range(size))
        case Product(factors=parts):
            positions = [0]
            for part in parts:
                inner = kept_index(part, kept)
                positions = [p * part.size + q for p in positions for q in inner]
            return positions
        case Sum(terms=parts):
            positions, offset = [], 0
            for part in parts:
                positions += [offset + p for p in kept_index(part, kept)]
                offset += part.size
            return positions
