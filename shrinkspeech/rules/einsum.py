"""``einsum`` of any number of operands, contracted two by two in the order that torch takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from shrinkspeech.axes.algebra import Axis
from shrinkspeech.rules.contraction import effect_of
from shrinkspeech.rules.equations import bind
from shrinkspeech.rules.registry import Effect, NoRule, Site, Term, rule

aten = torch.ops.aten


@rule(aten.einsum.default)
def einsum(site: Site) -> Effect:
    """A letter that is repeated in one operand is a diagonal: that has no rule."""
    operands = list(site.arg(1))
    left, arrow, out = site.arg(0).replace(" ", "").partition("->")
    parts = [re.findall(r"\.\.\.|\w", part) for part in left.split(",")]
    if any(len(set(part)) != len(part) for part in parts):
        raise NoRule(f"einsum '{site.arg(0)}'")
    letters = re.findall(r"\.\.\.|\w", out) if arrow else implicit(parts)
    found = bind(site, f"{', '.join(map(' '.join, parts))} -> {' '.join(letters)}", *operands)
    *held, output = [letters for letters, _ in found.held]
    return replace(effect_of(site, found), terms=tuple(steps(held, output, site.arg(2, "path"), found.table)))


def implicit(parts: list[list[str]]) -> list[str]:
    """The output of an einsum without ``->``: letters that stand once, in the order of the alphabet."""
    every = [letter for part in parts for letter in part]
    once = sorted(letter for letter in every if every.count(letter) == 1 and letter != "...")
    return ["...", *once] if "..." in every else once


def steps(
    operands: Sequence[frozenset[str]], output: frozenset[str], path: Sequence[int] | None, table: Mapping[str, Axis]
) -> Iterator[Term]:
    """The cost of each product of two: 2 × the letters of both, without those that only one of all operands has.

    A product that sums nothing is one of elements: it costs nothing, as ``mul`` does.

    Args:
        path: positions of the pairs in what is left, the product put last; without it the first two, the product put first.
    """
    left = list(operands)
    times = Counter(letter for letters in (*left, output) for letter in letters)
    left = [frozenset(letter for letter in letters if times[letter] > 1) for letters in left]
    while len(left) > 1:
        first, second = sorted(path[:2]) if path else (0, 1)
        b, a = left.pop(second), left.pop(first)
        rest = frozenset[str]().union(output, *left)
        if not a | b <= rest:
            yield Term(2.0, tuple(table[letter] for letter in sorted(a | b)))
        left.insert(len(left) if path else 0, (a | b) & rest)
        path = path[2:] if path else path
