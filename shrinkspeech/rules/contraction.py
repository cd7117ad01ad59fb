"""Contractions: one equation gives the labels, the gates, the cost and the slices.

Letters: an equation such as ``... i, o i -> ... o`` names the axes of two operands and of the output. Equal
letters are the same axis; a letter missing from the output is contracted, and a gate stands where the first
operand that is not a constant carries it.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import fx

from shrinkspeech.axes.algebra import Axes, Axis, Fixed, product
from shrinkspeech.rules.registry import Effect, Fold, Literal, Read, Site, Term, rule
from shrinkspeech.rules.windows import each, slid

aten = torch.ops.aten


def bind(site: Site, operand: Any, letters: list[str], table: dict[str, Axis]) -> None:
    """Unify each axis of ``operand`` with the letter that names it; an axis of size 1 broadcasts."""
    for letter, axis in zip(letters, site.axes(operand), strict=True):
        known = table.get(letter)
        if known is None or (known.size == 1 and axis.size != 1):
            table[letter] = axis
        elif axis.size != 1 or known.size == 1:
            site.unify(known, axis)


def contract(site: Site, equation: str, a: Any, b: Any, bias: Any = None) -> Effect:
    """The effect of ``a, b -> out`` written as an equation over letters, ``...`` for leading axes.

    Args:
        bias: a vector over the last letter of the output, or None.
    """
    left, out = equation.split("->")
    first, second = left.split(",")
    names = [part.split() for part in (first, second, out)]
    ranks = [len(site.axes(a)), len(site.axes(b)), len(site.shape())]
    full = [expand(part, rank) for part, rank in zip(names, ranks, strict=True)]
    table: dict[str, Axis] = {}
    bind(site, a, full[0], table)
    bind(site, b, full[1], table)
    output = [table[letter] for letter in full[2]]
    if isinstance(bias, fx.Node):
        site.unify(site.axes(bias)[-1], output[-1])
    letters = list(dict.fromkeys(full[1] + full[2]))
    reads = contracted(site, ((a, full[0]), (b, full[1])), set(full[2]))
    return Effect(
        outputs=(tuple(output),),
        reads=reads,
        folds=tuple(
            Fold(
                a,
                None,
                read.dim,
                read.axis,
                b,
                full[1].index(full[0][read.dim]),
                bias if isinstance(bias, fx.Node) else None,
            )
            for read in reads
            if read.node is a and isinstance(b, fx.Node) and b.op == "get_attr"
        ),
        terms=(Term(2.0, tuple(table[letter] for letter in letters)),),
    )


def expand(letters: list[str], rank: int) -> list[str]:
    """``...`` as numbered letters, aligned at the right."""
    if "..." not in letters:
        return letters
    at = letters.index("...")
    count = rank - len(letters) + 1
    return letters[:at] + [f".{count - i}" for i in range(count)] + letters[at + 1 :]


def contracted(site: Site, operands: tuple[tuple[Any, list[str]], ...], kept: set[str]) -> tuple[Read, ...]:
    """A gate for each contracted letter, on the first operand that is not a constant."""
    reads, seen = [], set(kept)
    live = [(node, letters) for node, letters in operands if not site.constant(node)]
    for node, letters in live or list(operands[:1]):
        for dim, letter in enumerate(letters):
            if letter not in seen:
                seen.add(letter)
                reads.append(Read(node, dim, site.axes(node)[dim]))
    return tuple(reads)


@rule(aten.linear.default)
def linear(site: Site) -> Effect:
    x, weight, bias = site.arg(0), site.arg(1), site.arg(2, "bias")
    return contract(site, "... i, o i -> ... o", x, weight, bias)


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


@rule(aten.einsum.default)
def einsum(site: Site) -> Effect:
    """Two operands without repeated letters in one operand; anything else is left alone."""
    operands = list(site.arg(1))
    left, arrow, out = site.arg(0).replace(" ", "").partition("->")
    parts = [re.findall(r"\.\.\.|\w", part) for part in left.split(",")]
    if len(operands) != 2 or any(len(set(part)) != len(part) for part in parts):
        return unmatched(site, operands, f"einsum '{site.arg(0)}' has no rule")
    letters = re.findall(r"\.\.\.|\w", out) if arrow else implicit(parts)
    return contract(site, f"{' '.join(parts[0])}, {' '.join(parts[1])} -> {' '.join(letters)}", *operands)


def implicit(parts: list[list[str]]) -> list[str]:
    """The output of an einsum without ``->``: letters that stand once, in the order of the alphabet."""
    every = [letter for part in parts for letter in part]
    once = sorted(letter for letter in every if every.count(letter) == 1 and letter != "...")
    return ["...", *once] if "..." in every else once


def unmatched(site: Site, operands: list[Any], why: str) -> Effect:
    """Freeze everything that the node touches."""
    for operand in operands:
        for axis in site.axes(operand):
            site.freeze(axis, why)
    return Effect(outputs=tuple(site.fixed(shape, why) for shape in site.shapes()))


@rule(
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
)
def conv(site: Site) -> Effect:
    """``b (g i) t, (g o) i k -> b (g o) u``; with one group g is nothing, depthwise has i = o = 1."""
    x, weight, bias = site.arg(0), site.arg(1), site.arg(2, "bias")
    count = site.arg(6, "groups", 1)
    batch, channels, spatial = batched(site, x)
    w_out, w_in, *kernel = kernel_fixed(site, weight)
    group = site.unifier.fresh(count)
    site.unify(channels, product(group, w_in))
    site.unify(w_out, product(group, site.unifier.fresh(w_out.size // count)))
    if isinstance(bias, fx.Node):
        site.unify(site.axes(bias)[0], w_out)
    taps, rank = [tap.size for tap in kernel], len(spatial)
    positions = slid(site, spatial, taps, each(site.arg(3, "stride"), rank, 1), each(site.arg(4, "padding"), rank, 0))
    return Effect(
        outputs=((*batch, w_out, *positions),),
        reads=grouped_read(x, len(batch), group, w_in),
        folds=dense_fold(x, len(batch), channels, weight, bias) if count == 1 else (),
        terms=(Term(2.0, (*batch, w_out, w_in, *kernel, *positions)),),
        literals=(Literal(site.path(6, "groups"), group),) if count > 1 else (),
    )


@rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def conv_transpose(site: Site) -> Effect:
    """``b (g i) t, (g i) o k -> b (g o) u``: every input position meets the whole kernel."""
    x, weight, bias = site.arg(0), site.arg(1), site.arg(2, "bias")
    count = site.arg(6, "groups", 1)
    batch, channels, spatial = batched(site, x)
    w_in, w_out, *kernel = kernel_fixed(site, weight)
    group, inner = site.unifier.fresh(count), site.unifier.fresh(w_in.size // count)
    site.unify(w_in, product(group, inner))
    site.unify(channels, w_in)
    freeze_spatial(site, spatial)
    out = product(group, w_out)
    if isinstance(bias, fx.Node):
        site.unify(site.axes(bias)[0], out)
    positions = site.fixed(site.shape()[len(site.shape()) - len(spatial) :])
    return Effect(
        outputs=((*batch, out, *positions),),
        reads=grouped_read(x, len(batch), group, inner),
        terms=(Term(2.0, (*batch, w_in, w_out, *kernel, *spatial)),),
        literals=(Literal(site.path(6, "groups"), group),) if count > 1 else (),
    )


def batched(site: Site, x: Any) -> tuple[Axes, Axis, Axes]:
    """Batch axes (none for an unbatched input), channel axis and spatial axes of a convolution's input."""
    axes = site.axes(x)
    spatial = len(site.shape(site.arg(1))) - 2
    return axes[: len(axes) - spatial - 1], axes[len(axes) - spatial - 1], axes[len(axes) - spatial :]


def kernel_fixed(site: Site, weight: Any) -> list[Axis]:
    """The weight's axes, the taps of its kernel fixed."""
    first, second, *taps = site.axes(weight)
    return [first, second, *(site.unifier.fix(tap, "the taps of a kernel") for tap in taps)]


def freeze_spatial(site: Site, spatial: Axes) -> None:
    for axis in spatial:
        site.freeze(axis, f"{site.node.target} slides over it")


def dense_fold(x: Any, dim: int, channels: Axis, weight: Any, bias: Any) -> tuple[Fold, ...]:
    """The weight of a convolution with one group meets the input's channels with its second dimension."""
    if weight.op != "get_attr":
        return ()
    return (Fold(x, None, dim, channels, weight, 1, bias if isinstance(bias, fx.Node) else None),)


def grouped_read(x: Any, dim: int, group: Axis, inner: Axis) -> tuple[Read, ...]:
    """A convolution reads the channels inside a group; a depthwise one reads no other channel than its own."""
    if inner.size == 1:
        return ()
    count = group.size
    return (Read(x, dim, product(Fixed(count), inner)),)


@rule(aten.scaled_dot_product_attention.default)
def attention(site: Site) -> Effect:
    """``b h q d, b h k d -> b h q k`` then ``b h q k, b h k v -> b h q v``; the scale is pinned before slicing."""
    query, key, value = site.arg(0), site.arg(1), site.arg(2)
    mask = site.arg(3, "attn_mask")
    q, k, v = site.axes(query), site.axes(key), site.axes(value)
    if site.arg(7, "enable_gqa", False) or (q[-3:-2] and q[-3].size != k[-3].size):
        return unmatched(site, [query, key, value, mask], "grouped-query attention has no rule")
    for a, b, c in zip(q[:-2], k[:-2], v[:-2], strict=True):
        if Fixed(1) not in (a, b):
            site.unify(a, b)
        if Fixed(1) not in (a, c):
            site.unify(a, c)
    site.unify(q[-1], k[-1])
    site.unify(k[-2], v[-2])
    for axis in (q[-2], k[-2]):
        site.freeze(axis, "attention is taken over it")
    if isinstance(mask, fx.Node):
        for axis, out in zip(reversed(site.axes(mask)), reversed((*q[:-2], q[-2], k[-2])), strict=False):
            if axis != Fixed(1):
                site.unify(axis, out)
    return Effect(
        outputs=((*q[:-1], v[-1]),),
        reads=(Read(query, len(q) - 1, q[-1]),),
        terms=(Term(2.0, (*q[:-1], k[-2], q[-1])), Term(2.0, (*q[:-1], k[-2], v[-1]))),
    )
