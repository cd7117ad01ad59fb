"""Shape operators: they move, group and part axes, and name the integer literals that follow an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shrinkspeech.axes.algebra import Axes, Axis, Fixed, labels_of, product
from shrinkspeech.rules.registry import Effect, Literal, Path, Site, rule

aten = torch.ops.aten


def dims(site: Site, value: Any) -> list[int]:
    """Dimensions counted from the front."""
    rank = len(site.axes(site.arg(0)))
    values = [value] if isinstance(value, int) else list(value)
    return [dim % rank if rank else dim for dim in values]


def regroup(site: Site, axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes of a row-major view: runs of input axes and output sizes with equal products are matched."""
    result: list[Axis] = []
    i = j = 0
    while i < len(axes) or j < len(shape):
        run, sizes = list(axes[i : i + 1]), list(shape[j : j + 1])
        i, j = i + len(run), j + len(sizes)
        while product(*run).size != (total := product(*map(Fixed, sizes)).size):
            if product(*run).size < total:
                run.append(axes[i])
                i += 1
            else:
                sizes.append(shape[j])
                j += 1
        joined = product(*run)
        result += [joined] if len(sizes) == 1 else site.unifier.split(joined, sizes, f"{site.node.target} parts it")
        result = [site.unifier.resolve(axis) for axis in result]
    return tuple(result)


def size_literals(site: Site, path: Path, sizes: Sequence[Any], axes: Axes) -> tuple[Literal, ...]:
    """Rewrites for a list of sizes: integers follow their axis; one computed size over labels may be inferred."""
    literals, inferred = [], any(size == -1 for size in sizes if isinstance(size, int))
    for i, (size, axis) in enumerate(zip(sizes, axes, strict=True)):
        if isinstance(size, int):
            if size != -1:
                literals.append(Literal((*path, i), axis))
        elif any(True for _ in labels_of(axis)):
            if inferred:
                site.freeze(axis, f"{site.node.target} computes more than one size")
            else:
                inferred = True
                literals.append(Literal((*path, i), None))
    return tuple(literals)


@rule(aten.view.default, aten.reshape.default, aten._unsafe_view.default)
def view(site: Site) -> Effect:
    axes = regroup(site, site.axes(site.arg(0)), site.shape())
    sizes = list(site.arg(1))
    return Effect(outputs=(axes,), literals=size_literals(site, (1,), sizes, axes))


@rule(aten.flatten.using_ints)
def flatten(site: Site) -> Effect:
    return Effect(outputs=(regroup(site, site.axes(site.arg(0)), site.shape()),))


@rule(aten.unflatten.int)
def unflatten(site: Site) -> Effect:
    sizes = list(site.arg(2))
    axes = regroup(site, site.axes(site.arg(0)), site.shape())
    start = dims(site, site.arg(1))[0]
    return Effect(outputs=(axes,), literals=size_literals(site, (2,), sizes, axes[start : start + len(sizes)]))


@rule(aten.view_as.default, aten.reshape_as.default)
def view_as(site: Site) -> Effect:
    axes = regroup(site, site.axes(site.arg(0)), site.shape())
    for axis, like in zip(axes, site.axes(site.arg(1)), strict=True):
        site.unify(axis, like)
    return Effect(outputs=(axes,))


@rule(aten.permute.default)
def permute(site: Site) -> Effect:
    axes = site.axes(site.arg(0))
    return Effect(outputs=(tuple(axes[dim] for dim in dims(site, site.arg(1))),))


@rule(aten.transpose.int, aten.swapaxes.default, aten.swapdims.default)
def transpose(site: Site) -> Effect:
    axes = list(site.axes(site.arg(0)))
    a, b = dims(site, [site.arg(1), site.arg(2)])
    axes[a], axes[b] = axes[b], axes[a]
    return Effect(outputs=(tuple(axes),))


@rule(aten.t.default, aten.numpy_T.default, aten.mT.default, aten.mH.default, aten.adjoint.default)
def reverse(site: Site) -> Effect:
    axes = site.axes(site.arg(0))
    return Effect(outputs=((*axes[:-2], *reversed(axes[-2:])),))


@rule(aten.movedim.int, aten.movedim.intlist)
def movedim(site: Site) -> Effect:
    axes = site.axes(site.arg(0))
    source, target = dims(site, site.arg(1)), dims(site, site.arg(2))
    moved = dict(zip(target, source, strict=True))
    rest = iter(dim for dim in range(len(axes)) if dim not in source)
    return Effect(outputs=(tuple(axes[moved[i] if i in moved else next(rest)] for i in range(len(axes))),))


@rule(aten.squeeze.dims, aten.squeeze.dim)
def squeeze(site: Site) -> Effect:
    axes = site.axes(site.arg(0))
    gone = {dim for dim in dims(site, site.arg(1)) if axes[dim].size == 1}
    return Effect(outputs=(tuple(axis for dim, axis in enumerate(axes) if dim not in gone),))


@rule(aten.unsqueeze.default)
def unsqueeze(site: Site) -> Effect:
    axes = list(site.axes(site.arg(0)))
    dim = site.arg(1)
    axes.insert(dim if dim >= 0 else len(axes) + 1 + dim, Fixed(1))
    return Effect(outputs=(tuple(axes),))


@rule(aten.expand.default, aten.broadcast_to.default)
def expand(site: Site) -> Effect:
    source, sizes = site.axes(site.arg(0)), list(site.arg(1))
    lead = len(sizes) - len(source)
    axes: list[Axis] = []
    for i, extent in enumerate(site.shape()):
        old = source[i - lead] if i >= lead else Fixed(1)
        grown = old.size == 1 and extent != 1
        axes.append(
            (site.unifier.fresh(extent) if isinstance(sizes[i], int) else site.sized(sizes[i], extent))
            if grown
            else old
        )
    literals = [
        Literal((1, i), axis)
        for i, (axis, size) in enumerate(zip(axes, sizes, strict=True))
        if isinstance(size, int) and size != -1
    ]
    return Effect(outputs=(tuple(axes),), literals=tuple(literals))


@rule(aten.expand_as.default)
def expand_as(site: Site) -> Effect:
    like = list(site.axes(site.arg(1)))
    for i, axis in enumerate(reversed(site.axes(site.arg(0))), start=1):
        if axis != Fixed(1):
            site.unify(axis, like[-i])
    return Effect(outputs=(tuple(like),))


@rule(aten.repeat.default, aten.tile.default)
def repeat(site: Site) -> Effect:
    """``[a] repeated k times`` is the product of k and a; a repeated single element is a new axis."""
    counts = list(site.arg(1))
    source = (Fixed(1),) * (len(counts) - len(site.axes(site.arg(0)))) + site.axes(site.arg(0))
    axes, literals = [], []
    for i, (count, axis, extent) in enumerate(zip(counts, source, site.shape(), strict=True)):
        if axis.size == 1 and isinstance(count, int):
            new = site.unifier.fresh(extent)
            axes.append(new)
            literals.append(Literal((1, i), new))
        else:
            axes.append(product(Fixed(extent // max(axis.size, 1)), axis))
    return Effect(outputs=(tuple(axes),), literals=tuple(literals))


@rule(aten.repeat_interleave.self_int)
def repeat_interleave(site: Site) -> Effect:
    dim = site.arg(2, "dim")
    axes = list(site.axes(site.arg(0)))
    if dim is None:
        for axis in axes:
            site.freeze(axis, f"{site.node.target} flattens it")
        return Effect(outputs=(site.fixed(site.shape()),))
    axes[dim] = product(axes[dim], Fixed(site.shape()[dim] // max(axes[dim].size, 1)))
    return Effect(outputs=(tuple(axes),))


@rule(aten.flip.default, aten.roll.default)
def reorder(site: Site) -> Effect:
    """Flipping or rolling a label would break the order that everything else keeps."""
    axes = site.axes(site.arg(0))
    moved = site.arg(1) if site.node.target is aten.flip.default else site.arg(2, "dims") or range(len(axes))
    for dim in dims(site, moved):
        site.freeze(axes[dim], f"{site.node.target} reorders it")
    return Effect(outputs=(axes,))


@rule(aten.view_as_real.default)
def view_as_real(site: Site) -> Effect:
    return Effect(outputs=((*site.axes(site.arg(0)), Fixed(2)),))


@rule(aten.view_as_complex.default)
def view_as_complex(site: Site) -> Effect:
    *axes, pair = site.axes(site.arg(0))
    site.freeze(pair, "the real and imaginary part")
    return Effect(outputs=(tuple(axes),))
