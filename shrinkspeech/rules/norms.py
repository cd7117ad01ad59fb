"""Norms: features are centred and scaled by statistics, of each channel for itself or across channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx

from shrinkspeech.axes.algebra import Axes
from shrinkspeech.rules import masked
from shrinkspeech.rules.equations import bind
from shrinkspeech.rules.reduction import over
from shrinkspeech.rules.registry import Effect, Literal, Masked, Site, Term, rule

aten = torch.ops.aten


def cost(axes: Axes, factor: float) -> tuple[Term, ...]:
    return (Term(factor, axes),)


@rule(aten.batch_norm.default, aten.instance_norm.default)
def channel_norm(site: Site) -> Effect:
    """Statistics of each channel for itself: weight, bias and running statistics have the channel's axis."""
    axes = site.axes(site.arg(0))
    for position in (1, 2, 3, 4):
        if isinstance(site.arg(position), fx.Node):
            site.unify(site.axes(site.arg(position))[0], axes[1])
    return Effect(outputs=(axes,), extra=cost(axes, 4.0))


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
    form = partial(masked.rms_norm if rms else masked.layer_norm, rank=rank)
    return Effect(
        outputs=(axes,),
        literals=literals,
        masked=over(axes, range(len(axes) - rank, len(axes)), _keyword_rank(form)),
        extra=cost(axes, 5.0),
    )


def _keyword_rank(form: Callable[..., Any]) -> Callable[..., Any]:
    return lambda keeps, *args, **kwargs: form.func(keeps, form.keywords["rank"], *args, **kwargs)  # type: ignore[attr-defined]


@rule(aten.group_norm.default)
def group_norm(site: Site) -> Effect:
    """Whole groups may go, or the same channels inside every group."""
    count = site.arg(1)
    group = site.unifier.fresh(count)
    parameters = site.arg(2, "weight"), site.arg(3, "bias")
    found = bind(site, "b (g c) ..., (g c), (g c) -> b (g c) ...", site.arg(0), *parameters, g=group)
    return Effect(
        outputs=(found.outputs,),
        literals=(Literal((1,), group),) if count > 1 else (),
        masked=Masked(masked.group_norm, (found.table["c"],)),
        extra=cost(found.outputs, 5.0),
    )
