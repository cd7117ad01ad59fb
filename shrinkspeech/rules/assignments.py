"""Assignments, ``x[…] = y``: what is written has the axes of the place; elements addressed by number keep their axis whole.

What writes to as many places as a mask has (``masked_scatter``) has no rule, and so freezes everything that it touches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from shrinkspeech.axes.algebra import Axis, Fixed, concat, labels_of
from shrinkspeech.rules.registry import Effect, Literal, Site, rule
from shrinkspeech.rules.shape import dims
from shrinkspeech.rules.table import addressed, is_mask

aten = torch.ops.aten


@rule(aten.copy_.default)
def copy(site: Site) -> Effect:
    """The axes of the place are those of the tensor that it is a part of."""
    place = site.axes(site.arg(0))
    _write(site, place, site.axes(site.arg(1)))
    return Effect(outputs=(place,))


@rule(aten.select_scatter.default)
def select_scatter(site: Site) -> Effect:
    axes, dim = site.axes(site.arg(0)), dims(site, site.arg(2))[0]
    addressed(site, axes[dim])
    _write(site, (*axes[:dim], *axes[dim + 1 :]), site.axes(site.arg(1)))
    return Effect(outputs=(axes,))


@rule(aten.slice_scatter.default)
def slice_scatter(site: Site) -> Effect:
    """A range of an axis: of a label it is a cut, and both ends follow what remains."""
    axes, value = site.axes(site.arg(0)), site.axes(site.arg(1))
    dim = dims(site, site.arg(2, "dim", 0))[0]
    axis, inside = axes[dim], value[dim]
    _write(site, (*axes[:dim], inside, *axes[dim + 1 :]), value)
    if axis.size == inside.size:
        site.unify(axis, inside)
        return Effect(outputs=(axes,), literals=_ends(site, Fixed(0), axis))
    start = site.number(site.arg(3, "start")) or 0
    if site.arg(5, "step", 1) != 1 or any(
        isinstance(site.arg(i, name), fx.Node) for i, name in ((3, "start"), (4, "end"))
    ):
        for part in (axis, inside):
            site.freeze(part, f"{site.node.target} writes to a part that cannot be followed")
        return Effect(outputs=(axes,))
    start = max(0, start + axis.size if start < 0 else start)
    sizes = [start, inside.size, axis.size - start - inside.size]
    before, part, _ = site.unifier.cut(axis, sizes, f"{site.node.target} parts it")
    site.unify(part, inside)
    resolved = tuple(site.unifier.resolve(x) for x in axes)
    return Effect(outputs=(resolved,), literals=_ends(site, before, concat(before, part)))


def _ends(site: Site, first: Axis, last: Axis) -> tuple[Literal, ...]:
    """The ends of a range, where they are numbers that cut into what can shrink."""
    found = ((site.path(3, "start"), site.arg(3, "start"), first), (site.path(4, "end"), site.arg(4, "end"), last))
    if not any(True for _ in labels_of(last)):
        return ()
    return tuple(Literal(path, axis) for path, given, axis in found if isinstance(given, int))


@rule(aten.index_put.default, aten.index_put_.default)
def index_put(site: Site) -> Effect:
    """``x[:, i, j] = y``: the addressed axes of the place stay whole, and what is written has the others."""
    axes, positions = site.axes(site.arg(0)), list(site.arg(1))
    used: list[int] = []
    rank, dim = 0, 0
    for position in positions:
        if not isinstance(position, fx.Node):
            dim += 1
            continue
        own = len(site.axes(position))
        taken, found = (own, 1) if is_mask(position) else (1, own)
        used += range(dim, dim + taken)
        rank, dim = max(rank, found), dim + taken
        for axis in site.axes(position):
            addressed(site, axis)
    for i in used:
        addressed(site, axes[i])
    kept = [axis for i, axis in enumerate(axes) if i not in used]
    lead = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    _write(site, (*kept[:lead], *[None] * rank, *kept[lead:]), site.axes(site.arg(2)))
    return Effect(outputs=(axes,))


def _write(site: Site, place: Sequence[Axis | None], value: Sequence[Axis]) -> None:
    """What is written broadcasts to the place; None stands for an axis of positions."""
    for a, b in zip(reversed(place), reversed(value), strict=False):
        if a is None:
            addressed(site, b)
        elif b.size != 1 or a.size == 1:
            site.unify(a, b)
