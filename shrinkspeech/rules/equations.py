"""Equations over letters, ``b (g i) u+k, (g o) i k -> b (g o) u``: which axes of operands and output are the same.

One place for each axis. A place holds a letter; several in brackets, which is one axis that holds them all, row-major (the last
varies fastest); or ``u+k``, an axis over which a window of k taps slides to u positions. ``...`` stands for any number of axes.
Equal letters are the same axis. An operand's axis of size 1 broadcasts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from shrinkspeech.axes.algebra import Axes, Axis, Fixed, product
from shrinkspeech.rules.registry import Site


@dataclass(frozen=True)
class Place:
    """The letters of one axis; where a window ``slides``, those of positions and taps."""

    letters: tuple[str, ...]
    slides: bool = False

    @property
    def lone(self) -> str | None:
        """The letter that has the axis for itself."""
        return self.letters[0] if len(self.letters) == 1 else None


Places = tuple[Place, ...]


def places(text: str, rank: int) -> Places:
    """One operand (or the output) of an equation, with ``...`` as numbered letters, aligned at the right."""
    tokens = re.findall(r"\.\.\.|\([^)]*\)|[^\s()]+", text)
    if "..." in tokens:
        at, count = tokens.index("..."), rank - len(tokens) + 1
        tokens[at : at + 1] = [f".{count - i}" for i in range(count)]
    return tuple(
        Place(tuple(token.strip("()").split())) if "+" not in token else Place(tuple(token.split("+")), slides=True)
        for token in tokens
    )


@dataclass(frozen=True)
class Binding:
    """An equation that was laid over the operands of a node: the axis of every letter."""

    operands: tuple[tuple[Any, Places], ...]
    output: Places
    table: Mapping[str, Axis]

    def axis(self, letters: Sequence[str]) -> Axis:
        """The axis that holds some letters, row-major."""
        return product(*(self.table[letter] for letter in letters))

    @property
    def outputs(self) -> Axes:
        """Axes of the output: the positions where a window slides over it are counted by torch, not by letters."""
        return tuple(self.table[sliding(place)] if place.slides else self.axis(place.letters) for place in self.output)

    @property
    def held(self) -> Iterator[tuple[frozenset[str], bool]]:
        """The letters of each operand, and of the output (marked so)."""
        yield from ((frozenset(letter for place in row for letter in place.letters), False) for _, row in self.operands)
        yield frozenset(letter for place in self.output for letter in place.letters), True


def sliding(place: Place) -> str:
    """The name in a table of an axis that a window slides over."""
    return "+".join(place.letters)


def bind(site: Site, equation: str, *operands: Any, **known: Axis) -> Binding:
    """Make the axes agree that an equation names alike.

    Args:
        operands: one for each part before the arrow; None where an optional one was not given.
        known: letters whose axis is known beforehand (the count of groups).

    Raises:
        ValueError: brackets hold more than one letter of unknown size.
    """
    left, _, right = equation.partition("->")
    given = [(node, text) for node, text in zip(operands, left.split(","), strict=True) if isinstance(node, fx.Node)]
    rows = tuple((node, places(text, len(site.axes(node)))) for node, text in given)
    output, shape = places(right, len(site.shape())), site.shape()
    table: dict[str, Axis] = dict(known)
    for node, row in rows:
        for place, axis in zip(row, site.axes(node), strict=True):
            if place.slides:
                site.freeze(axis, f"{site.node.target} slides over it")
            elif place.lone:
                _tie(site, table, place.lone, axis)
    for place in (place for row in (output, *(row for _, row in rows)) for place in row if place.slides):
        taps = place.letters[-1]
        table[taps] = site.unifier.fix(table[taps], "the taps of a kernel")
    _brackets(site, table, [pair for node, row in rows for pair in zip(row, site.axes(node), strict=True)])
    for place, size in zip(output, shape, strict=True):
        if place.slides:
            table[sliding(place)] = Fixed(size)
        elif place.lone:
            table.setdefault(place.lone, Fixed(size))
    return Binding(rows, output, table)


def _tie(site: Site, table: dict[str, Axis], letter: str, axis: Axis) -> None:
    """Unify an axis with the letter that names it; an axis of size 1 broadcasts."""
    known = table.get(letter)
    if known is None or (known.size == 1 and axis.size != 1):
        table[letter] = axis
    elif axis.size != 1 or known.size == 1:
        site.unify(known, axis)


def _brackets(site: Site, table: dict[str, Axis], pairs: Sequence[tuple[Place, Axis]]) -> None:
    """Unify the axes that hold several letters; one letter of each may be unknown, its size is what is left."""
    waiting = [(place, axis) for place, axis in pairs if not place.slides and not place.lone]
    while waiting:
        ready = [(p, axis) for p, axis in waiting if sum(letter not in table for letter in p.letters) <= 1]
        if not ready:
            raise ValueError(f"the sizes of {' '.join(waiting[0][0].letters)} cannot be told")
        place, axis = ready[0]
        waiting.remove((place, axis))
        axis = site.unifier.resolve(axis)
        size = axis.size // product(*(table.get(letter, Fixed(1)) for letter in place.letters)).size
        for letter in place.letters:
            if letter not in table:
                table[letter] = Fixed(size, axis.why) if isinstance(axis, Fixed) else site.unifier.fresh(size)
        site.unify(axis, product(*(table[letter] for letter in place.letters)))
