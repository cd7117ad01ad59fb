"""Look-ups: elements addressed by number keep their axis whole; every other axis goes through."""

from __future__ import annotations

import torch
from torch import fx

from shrinkspeech.axes.algebra import Axis, Fixed
from shrinkspeech.rules.registry import Effect, Site, rule

aten = torch.ops.aten


def addressed(site: Site, axis: Axis) -> None:
    site.freeze(axis, f"{site.node.target} addresses its elements one by one")


@rule(aten.gather.default, aten.take_along_dim.default)
def gather(site: Site) -> Effect:
    """The positions have the shape of the result; on every other axis than ``dim`` they meet those of the source."""
    source, index = site.axes(site.arg(0)), site.axes(site.arg(2 if site.node.target is aten.gather.default else 1))
    where = site.arg(1, "dim") if site.node.target is aten.gather.default else site.arg(2, "dim")
    out: list[Axis] = []
    for i, (axis, position, size) in enumerate(zip(source, index, site.shape(), strict=True)):
        if i == (where or 0) % len(source):
            addressed(site, axis)
            out.append(position)
        elif axis.size == position.size == size:
            site.unify(axis, position)
            out.append(axis)
        else:
            addressed(site, axis)
            addressed(site, position)
            out.append(axis if axis.size == size else position if position.size == size else Fixed(size))
    return Effect(outputs=(tuple(out),))


@rule(aten.index.Tensor)
def index(site: Site) -> Effect:
    """``x[:, i, j]``: the addressed axes give way to the broadcast axes of the positions.

    These stand where the first addressed axis stood if all of them are neighbours, else in front.
    """
    axes, positions = site.axes(site.arg(0)), list(site.arg(1))
    used = [i for i, position in enumerate(positions) if isinstance(position, fx.Node)]
    masks = any(is_mask(positions[i]) for i in used)
    for i in range(len(axes)) if masks else used:
        addressed(site, axes[i])
    for i in used:
        for axis in site.axes(positions[i]):
            addressed(site, axis)
    if masks:
        return Effect(outputs=(site.fixed(site.shape(), "chosen by a mask"),))
    kept = [axis for i, axis in enumerate(axes) if i not in used]
    lead = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    rank = len(site.shape()) - len(kept)
    broadcast = site.fixed(site.shape()[lead : lead + rank])
    return Effect(outputs=((*kept[:lead], *broadcast, *kept[lead:]),))


def is_mask(node: fx.Node) -> bool:
    """A mask takes as many axes as it has; positions take one each, whatever their shape."""
    value = node.meta.get("val")
    return value is None or value.dtype in (torch.bool, torch.uint8)


@rule(aten.one_hot.default)
def one_hot(site: Site) -> Effect:
    return Effect(outputs=((*site.axes(site.arg(0)), Fixed(site.shape()[-1], "one element for each number")),))
