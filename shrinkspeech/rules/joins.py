"""Operators that join axes side by side or take parts of them: sums of the algebra, and the ends of each part."""

from __future__ import annotations

import operator

import torch
from torch import fx

from shrinkspeech.axes.algebra import Axis, Fixed, concat, labels_of
from shrinkspeech.rules.registry import Effect, Literal, Site, rule
from shrinkspeech.rules.shape import dims

aten = torch.ops.aten
END = 2**62
"""What torch writes for the end of a slice that has none."""


@rule(aten.cat.default, aten.concat.default, aten.concatenate.default)
def cat(site: Site) -> Effect:
    parts = [node for node in site.arg(0) if len(site.axes(node)) == len(site.shape())]
    dim = site.arg(1, "dim", 0) % len(site.shape())
    merged = list(site.axes(parts[0]))
    for part in parts[1:]:
        for i, axis in enumerate(site.axes(part)):
            if i != dim:
                site.unify(merged[i], axis)
    merged[dim] = concat(*(site.axes(part)[dim] for part in parts))
    return Effect(outputs=(tuple(merged),))


@rule(aten.stack.default)
def stack(site: Site) -> Effect:
    parts, dim = list(site.arg(0)), site.arg(1, "dim", 0) % len(site.shape())
    merged = list(site.axes(parts[0]))
    for part in parts[1:]:
        for a, b in zip(merged, site.axes(part), strict=True):
            site.unify(a, b)
    merged.insert(dim, Fixed(len(parts), "stacked"))
    return Effect(outputs=(tuple(merged),))


@rule(aten.split_with_sizes.default)
def split_with_sizes(site: Site) -> Effect:
    """``chunk`` and ``split`` come here too: capture writes them with explicit sizes."""
    x, sizes = site.arg(0), list(site.arg(1))
    dim = dims(site, site.arg(2, "dim", 0))[0]
    axes = site.axes(x)
    plain = [site.number(size) for size in sizes]
    parts = site.unifier.cut(axes[dim], plain, f"{site.node.target} parts it")
    literals = tuple(
        Literal((1, i), part) for i, (part, size) in enumerate(zip(parts, sizes, strict=True)) if isinstance(size, int)
    )
    return Effect(outputs=tuple((*axes[:dim], part, *axes[dim + 1 :]) for part in parts), literals=literals)


@rule(aten.chunk.default, aten.split.Tensor)
def parts_of_fixed(site: Site) -> Effect:
    """Only dynamic axes are still parted by these: capture writes the others with explicit sizes."""
    dim = dims(site, site.arg(2, "dim", 0))[0]
    axes = site.axes(site.arg(0))
    site.freeze(axes[dim], f"{site.node.target} parts it")
    return Effect(outputs=tuple((*axes[:dim], Fixed(shape[dim]), *axes[dim + 1 :]) for shape in site.shapes()))


@rule(aten.unbind.int)
def unbind(site: Site) -> Effect:
    dim = dims(site, site.arg(1, "dim", 0))[0]
    axes = site.axes(site.arg(0))
    site.freeze(axes[dim], f"{site.node.target} addresses its elements one by one")
    return Effect(outputs=((*axes[:dim], *axes[dim + 1 :]),) * axes[dim].size)


@rule(operator.getitem)
def getitem(site: Site) -> Effect:
    """One of the tensors that a node returns; the others are taken by nodes of their own."""
    tensors, index = site.axes_of(site.arg(0)), site.arg(1)
    return Effect(outputs=(tensors[index],), left=tuple(axis for axes in tensors for axis in axes))


@rule(aten.select.int)
def select(site: Site) -> Effect:
    dim = dims(site, site.arg(1))[0]
    axes = site.axes(site.arg(0))
    site.freeze(axes[dim], f"{site.node.target} addresses its elements one by one")
    return Effect(outputs=((*axes[:dim], *axes[dim + 1 :]),))


@rule(aten.index_select.default)
def index_select(site: Site) -> Effect:
    axes, dim = list(site.axes(site.arg(0))), dims(site, site.arg(1))[0]
    site.freeze(axes[dim], f"{site.node.target} addresses its elements one by one")
    axes[dim] = site.axes(site.arg(2))[0]
    return Effect(outputs=(tuple(axes),))


@rule(aten.slice.Tensor, aten.narrow.default)
def slice_(site: Site) -> Effect:
    """A range of an axis: of a label it is a cut, and both ends follow what remains; the rest is left behind."""
    axes, dim = list(site.axes(site.arg(0))), dims(site, site.arg(1, "dim", 0))[0]
    axis, size, out = axes[dim], axes[dim].size, site.shape()[dim]
    if out == size:
        return Effect(outputs=(tuple(axes),), literals=whole(site, axis))
    start = site.number(site.arg(2, "start")) or 0
    start = max(0, start + size if start < 0 else start)
    if (site.node.target is aten.slice.Tensor and site.arg(4, "step", 1) != 1) or not literal_ends(site):
        site.freeze(axis, f"{site.node.target} takes a part that cannot be followed")
        axes[dim] = Fixed(out)
        return Effect(outputs=(tuple(axes),))
    before, inside, after = site.unifier.cut(axis, [start, out, size - start - out], f"{site.node.target} parts it")
    axes[dim] = inside
    end = inside if site.node.target is aten.narrow.default else concat(before, inside)
    first = Literal(site.path(2, "start"), before)
    last = Literal(site.path(3, "end" if site.node.target is aten.slice.Tensor else "length"), end)
    fixed = not any(True for _ in labels_of(concat(before, inside, after)))
    return Effect(outputs=(tuple(axes),), literals=() if fixed else (first, last), left=(before, after))


def whole(site: Site, axis: Axis) -> tuple[Literal, ...]:
    """A range that is the whole axis: a literal end must not cut into, or reach beyond, what remains."""
    last = site.arg(3, "end" if site.node.target is aten.slice.Tensor else "length")
    if isinstance(last, int) and 0 < last < END and any(True for _ in labels_of(axis)):
        name = "end" if site.node.target is aten.slice.Tensor else "length"
        return (Literal(site.path(3, name), axis),)
    return ()


def literal_ends(site: Site) -> bool:
    ends = site.arg(2, "start"), site.arg(3, "end" if site.node.target is aten.slice.Tensor else "length")
    return not any(isinstance(end, fx.Node) for end in ends)


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(site: Site) -> Effect:
    """Padding puts fixed elements around an axis; other modes than constant read the axis itself."""
    axes, amounts = list(site.axes(site.arg(0))), [site.number(a) for a in site.arg(1)]
    constant = site.node.target is aten.constant_pad_nd.default or site.arg(2, "mode", "constant") == "constant"
    for i in range(len(amounts) // 2):
        left, right = amounts[2 * i], amounts[2 * i + 1]
        dim = len(axes) - 1 - i
        if (left, right) == (0, 0):
            continue
        if not constant or min(left, right) < 0:
            site.freeze(axes[dim], f"{site.node.target} mirrors or cuts it")
            axes[dim] = Fixed(site.shape()[dim])
        else:
            axes[dim] = concat(Fixed(left), axes[dim], Fixed(right))
    return Effect(outputs=(tuple(axes),))
