"""Norms: features are centred and scaled by statistics, of each channel for itself or across channels."""

from __future__ import annotations

import torch
from torch import fx

from shrinkspeech.rules import masked_norms as masked
from shrinkspeech.rules.equations import bind
from shrinkspeech.rules.reduction import over
from shrinkspeech.rules.registry import Effect, Literal, Site, Term, rule

aten = torch.ops.aten


@rule(aten.batch_norm.default, aten.instance_norm.default)
def channel_norm(site: Site) -> Effect:
    """Statistics of each channel for itself, over all other axes or over space: closed units there must not count."""
    names = ("weight", "bias", "running_mean", "running_var")
    operands = [site.arg(position, name) for position, name in enumerate(names, start=1)]
    found = bind(site, "b c ..., c, c, c, c -> b c ...", site.arg(0), *operands)
    instance = site.node.target is aten.instance_norm.default
    dims = [dim for dim in range(len(found.outputs)) if dim > 1 or (dim == 0 and not instance)]
    form = masked.instance_norm if instance else masked.batch_norm
    return Effect(outputs=(found.outputs,), masked=over(found.outputs, dims, form), extra=(Term(4.0, found.outputs),))


@rule(aten.layer_norm.default, aten.rms_norm.default)
def layer_norm(site: Site) -> Effect:
    x, shape = site.arg(0), list(site.arg(1))
    axes, rank = site.axes(x), len(shape)
    last = axes[len(axes) - rank :]
    rms = site.node.target is aten.rms_norm.default
    for parameter in (site.arg(2, "weight"), None if rms else site.arg(3, "bias")):
        if isinstance(parameter, fx.Node):
            for a, b in zip(site.axes(parameter), last, strict=True):
                site.unify(a, b)
    literals = tuple(
        Literal((1, i), axis) for i, (axis, size) in enumerate(zip(last, shape, strict=True)) if isinstance(size, int)
    )
    return Effect(
        outputs=(axes,),
        literals=literals,
        masked=over(axes, range(len(axes) - rank, len(axes)), masked.rms_norm if rms else masked.layer_norm),
        extra=(Term(5.0, axes),),
    )


@rule(aten.group_norm.default)
def group_norm(site: Site) -> Effect:
    """Whole groups may go, or the same channels inside every group; the statistics are taken over space, too."""
    count = site.arg(1)
    group = site.unifier.fresh(count)
    parameters = site.arg(2, "weight"), site.arg(3, "bias")
    found = bind(site, "b (g c) ..., (g c), (g c) -> b (g c) ...", site.arg(0), *parameters, g=group)
    inside = (found.table["c"], *found.outputs[2:])
    return Effect(
        outputs=(found.outputs,),
        literals=(Literal((1,), group),) if count > 1 else (),
        masked=over(inside, range(len(inside)), masked.group_norm),
        extra=(Term(5.0, found.outputs),),
    )
