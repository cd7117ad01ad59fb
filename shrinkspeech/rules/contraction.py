"""Contractions: one equation gives the labels, the gates, the cost and the slices (``equations.py`` says how it is read).

A letter that the output lacks is contracted: a gate stands where the first operand that is not a constant carries it. The cost
is 2 × the product of all letters, but for one that stands in a single operand alone: that is summed before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import fx

from shrinkspeech.axes.algebra import Axis
from shrinkspeech.rules.equations import Binding, Places, bind
from shrinkspeech.rules.registry import Effect, Fold, Read, Site, Term, rule

aten = torch.ops.aten


def contract(site: Site, equation: str, *operands: Any, bias: Any = None, **known: Axis) -> Effect:
    """The effect of an operator that is written as an equation.

    Args:
        bias: a vector over the axis of the output that the second operand brings, or None.
        known: letters whose axis is known beforehand (the count of groups).
    """
    return effect_of(site, bind(site, equation, *operands, **known), bias)


def effect_of(site: Site, found: Binding, bias: Any = None) -> Effect:
    """The effect of an equation that was laid over a node's operands."""
    bias = bias if isinstance(bias, fx.Node) else None
    if bias is not None:
        site.unify(site.axes(bias)[-1], found.axis(_brought(found)))
    reads = tuple(_reads(site, found))
    return Effect(
        outputs=(found.outputs,),
        reads=reads,
        folds=tuple(_folds(found, reads, bias)),
        terms=(Term(2.0, tuple(found.table[letter] for letter in counted(found))),),
    )


def _brought(found: Binding) -> tuple[str, ...]:
    """The place of the output that holds a letter which the first operand lacks: that is the weight's own."""
    first = {letter for place in found.operands[0][1] for letter in place.letters}
    return next((place.letters for place in found.output if set(place.letters) - first), found.output[-1].letters)


def counted(found: Binding) -> list[str]:
    """Letters that multiply the cost: those of the output, and those that several operands share."""
    times: Counter[str] = Counter()
    for letters, output in found.held:
        times.update({letter: 2 if output else 1 for letter in sorted(letters)})
    return [letter for letter, count in times.items() if count > 1]


def _reads(site: Site, found: Binding) -> Iterator[Read]:
    """A gate for each run of contracted letters, on the first operand that carries it: constants come last."""
    seen = {letter for place in found.output for letter in place.letters}
    for node, row in sorted(found.operands, key=lambda pair: site.constant(pair[0])):
        for dim, (place, axis) in enumerate(zip(row, site.axes(node), strict=True)):
            if place.slides or axis.size == 1:
                continue
            start = 0
            for gone, run in groupby(place.letters, lambda letter: letter not in seen):
                end = start + len(list(run))
                parts = [found.axis(place.letters[i:j]) for i, j in ((start, end), (0, start), (end, None))]
                if gone and parts[0].size > 1:
                    yield Read(node, dim, *parts)
                start = end
            seen.update(place.letters)


def _folds(found: Binding, reads: tuple[Read, ...], bias: fx.Node | None) -> Iterator[Fold]:
    """The second of two operands, where it is a constant matrix that meets the whole axis which the first is read on.

    A window that slides over the output adds other taps at each place: what is removed there has no one weight.
    """
    if len(found.operands) != 2 or any(place.slides for place in found.output):
        return
    (feature, row), (weight, columns) = found.operands
    for read in reads:
        if read.node is feature and weight.op == "get_attr" and read.outer.size == read.inner.size == 1:
            [letter] = [x for x in row[read.dim].letters if found.table[x].size > 1]
            dim = _alone(columns, letter, found)
            if dim is not None:
                yield Fold(feature, None, read.dim, read.axis, weight, dim, bias)


def _alone(row: Places, letter: str, found: Binding) -> int | None:
    """The dimension that a letter has for itself (beside letters of size 1)."""
    for dim, place in enumerate(row):
        if letter in place.letters and all(x == letter or found.table[x].size == 1 for x in place.letters):
            return dim
    return None


@rule(aten.linear.default)
def linear(site: Site) -> Effect:
    return contract(site, "... i, o i -> ... o", site.arg(0), site.arg(1), bias=site.arg(2, "bias"))


@rule(aten.matmul.default, aten.mm.default, aten.bmm.default)
def matmul(site: Site) -> Effect:
    a, b = site.arg(0), site.arg(1)
    ranks = len(site.axes(a)), len(site.axes(b))
    match ranks:
        case (1, 1):
            return contract(site, "k, k ->", a, b)
        case (1, _):
            return contract(site, "k, ... k n -> ... n", a, b)
        case (_, 1):
            return contract(site, "... m k, k -> ... m", a, b)
    return contract(site, "... m k, ... k n -> ... m n", a, b)


@rule(aten.addmm.default, aten.baddbmm.default)
def addmm(site: Site) -> Effect:
    base, a, b = site.arg(0), site.arg(1), site.arg(2)
    effect = contract(site, "... m k, ... k n -> ... m n", a, b)
    for axis, out in zip(reversed(site.axes(base)), reversed(effect.outputs[0]), strict=False):
        if axis.size != 1:
            site.unify(axis, out)
    return effect
