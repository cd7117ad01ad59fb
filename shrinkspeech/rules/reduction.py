"""Reductions: operators that read across channels without a contraction, and pools."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from shrinkspeech.axes.algebra import Axes, Fixed, labels_of
from shrinkspeech.rules import masked
from shrinkspeech.rules.registry import Effect, Masked, Read, Site, rule
from shrinkspeech.rules.windows import each, window_axes

aten = torch.ops.aten


def reduced(site: Site, value: Any) -> list[int]:
    """The reduced dimensions from the front; none given means all."""
    rank = len(site.axes(site.arg(0)))
    if value is None or value == []:
        return list(range(rank))
    return [dim % rank for dim in ([value] if isinstance(value, int) else value)]


def remaining(axes: Axes, dims: Sequence[int], keepdim: bool) -> Axes:
    if keepdim:
        return tuple(Fixed(1) if dim in dims else axis for dim, axis in enumerate(axes))
    return tuple(axis for dim, axis in enumerate(axes) if dim not in dims)


def over(axes: Axes, dims: Sequence[int], call: Callable[..., Any]) -> Masked | None:
    """A masked form where a reduced axis carries a label."""
    axes = tuple(axes[dim] for dim in dims)
    return Masked(call, axes) if any(any(True for _ in labels_of(axis)) for axis in axes) else None


def tensor_only(call: Callable[..., Any]) -> Callable[..., Any]:
    """The reduction's own arguments are bound already: only the tensor is taken from the node."""
    return lambda keeps, x, *_args, **_kwargs: call(keeps, x=x)


@rule(aten.sum.dim_IntList, aten.sum.default)
def total(site: Site) -> Effect:
    x = site.arg(0)
    dims = reduced(site, site.arg(1, "dim"))
    axes = site.axes(x)
    reads = tuple(Read(x, dim, axes[dim]) for dim in dims)
    return Effect(outputs=(remaining(axes, dims, site.arg(2, "keepdim", False)),), reads=reads)


def reducer(*targets: Any) -> Callable[[Callable[[Site, list[int], bool], Callable[..., Any]]], None]:
    """Register a reduction ``(x, dim, keepdim)`` by its masked form."""

    def register(form: Callable[[Site, list[int], bool], Callable[..., Any]]) -> None:
        def reduce(site: Site) -> Effect:
            dims = reduced(site, site.arg(1, "dim"))
            keepdim = bool(site.arg(2, "keepdim", site.node.kwargs.get("keepdim", False)))
            axes = site.axes(site.arg(0))
            out = remaining(axes, dims, keepdim)
            return Effect(
                outputs=(out,) * len(site.shapes()), masked=over(axes, dims, tensor_only(form(site, dims, keepdim)))
            )

        rule(*targets)(reduce)

    return register


@reducer(aten.mean.dim, aten.mean.default)
def _mean(site: Site, dims: list[int], keepdim: bool) -> Callable[..., Any]:
    return partial(masked.mean, dims=dims, keepdim=keepdim)


@reducer(aten.amax.default, aten.max.default)
def _amax(site: Site, dims: list[int], keepdim: bool) -> Callable[..., Any]:
    return partial(masked.extreme, dims=dims, keepdim=keepdim, largest=True)


@reducer(aten.amin.default, aten.min.default)
def _amin(site: Site, dims: list[int], keepdim: bool) -> Callable[..., Any]:
    return partial(masked.extreme, dims=dims, keepdim=keepdim, largest=False)


@reducer(aten.logsumexp.default)
def _logsumexp(site: Site, dims: list[int], keepdim: bool) -> Callable[..., Any]:
    return partial(masked.logsumexp, dims=dims, keepdim=keepdim)


@reducer(aten.prod.dim_int, aten.prod.default)
def _product(site: Site, dims: list[int], keepdim: bool) -> Callable[..., Any]:
    return partial(masked.product, dims=dims, keepdim=keepdim)


@rule(aten.var.correction, aten.std.correction, aten.var.dim, aten.std.dim)
def spread(site: Site) -> Effect:
    """Variance and deviation, biased or not: one that divides by n − 1 needs two elements."""
    by_name = site.node.target in (aten.var.correction, aten.std.correction)
    correction: Any = site.node.kwargs.get("correction") if by_name else int(site.arg(2, "unbiased", True))
    correction = 1 if correction is None else correction
    keepdim = bool(site.node.kwargs.get("keepdim", site.arg(3, "keepdim", False)))
    dims, axes = reduced(site, site.arg(1, "dim")), site.axes(site.arg(0))
    site.at_least([axes[dim] for dim in dims], math.floor(correction) + 1)
    root = site.node.target in (aten.std.correction, aten.std.dim)
    form = partial(masked.variance, dims=dims, keepdim=keepdim, correction=correction, root=root)
    return Effect(outputs=(remaining(axes, dims, keepdim),), masked=over(axes, dims, tensor_only(form)))


@rule(aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim)
def vector_norm(site: Site) -> Effect:
    order, dims = site.arg(1, "ord", 2), reduced(site, site.arg(2, "dim"))
    keepdim, axes = bool(site.arg(3, "keepdim", False)), site.axes(site.arg(0))
    order = 2 if order is None else order
    if order <= 0 or order == float("inf"):
        for dim in dims:
            site.freeze(axes[dim], f"{site.node.target} of order {order} is taken over it")
    form = partial(masked.norm, dims=dims, keepdim=keepdim, order=order)
    return Effect(outputs=(remaining(axes, dims, keepdim),), masked=over(axes, dims, tensor_only(form)))


@rule(aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default)
def softmax(site: Site) -> Effect:
    axes = site.axes(site.arg(0))
    dims = reduced(site, site.arg(1, "dim"))
    log = site.node.target in (aten.log_softmax.int, aten._log_softmax.default)
    return Effect(outputs=(axes,), masked=over(axes, dims, tensor_only(partial(masked.softmax, dim=dims[0], log=log))))


@rule(aten.max.dim, aten.min.dim, aten.argmax.default, aten.argmin.default, aten.topk.default, aten.sort.default)
def indexed(site: Site) -> Effect:
    """Operators that return positions: the axis they are taken over must keep every element."""
    dim_at = 2 if site.node.target is aten.topk.default else 1
    default = None if site.node.target in (aten.argmax.default, aten.argmin.default) else -1
    dims = reduced(site, site.arg(dim_at, "dim", default))
    axes = site.axes(site.arg(0))
    for dim in dims:
        site.freeze(axes[dim], f"{site.node.target} returns positions in it")
    if len(site.shape()) == len(axes):
        shape = site.shape()
        out = tuple(Fixed(shape[i]) if i in dims else axis for i, axis in enumerate(axes))
    else:
        out = remaining(axes, dims, False)
    return Effect(outputs=(out,) * len(site.shapes()))


@rule(aten.any.dim, aten.all.dim)
def truth(site: Site) -> Effect:
    """Whether any, or every, element is true: each has a say, so that none may go."""
    dims, axes = reduced(site, site.arg(1, "dim")), site.axes(site.arg(0))
    for dim in dims:
        site.freeze(axes[dim], f"{site.node.target} asks every element of it")
    return Effect(outputs=(remaining(axes, dims, bool(site.arg(2, "keepdim", False))),))


@rule(aten.cumsum.default, aten.cumprod.default, aten.logcumsumexp.default)
def cumulative(site: Site) -> Effect:
    """Running sums: closed units must add nothing, so the axis is gated where it is read."""
    x, dims = site.arg(0), reduced(site, site.arg(1, "dim"))
    axes = site.axes(x)
    if site.node.target is not aten.cumsum.default:
        site.freeze(axes[dims[0]], f"{site.node.target} runs along it")
        return Effect(outputs=(axes,))
    return Effect(outputs=(axes,), reads=(Read(x, dims[0], axes[dims[0]]),))


POOLS = (
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
    aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default,
    aten.max_pool1d_with_indices.default,
    aten.max_pool2d_with_indices.default,
    aten.upsample_nearest1d.default,
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_linear1d.default,
    aten.upsample_linear1d.vec,
    aten.upsample_bilinear2d.default,
    aten.upsample_bilinear2d.vec,
)


WINDOWS = (aten.avg_pool1d.default, aten.avg_pool2d.default, aten.max_pool1d.default, aten.max_pool2d.default)


@rule(*POOLS)
def pool(site: Site) -> Effect:
    """Pooling and resampling keep channels apart; the spatial axes are slid over."""
    axes = site.axes(site.arg(0))
    spatial = 2 if "2d" in str(site.node.target) else 1
    lead = len(axes) - spatial
    if site.node.target in WINDOWS:
        kernel = each(site.arg(1, "kernel_size"), spatial, 1)
        stride = each(site.arg(2, "stride") or kernel, spatial, 1)
        return Effect(
            outputs=(
                (
                    *axes[:lead],
                    *window_axes(site, axes[lead:], kernel, stride, each(site.arg(3, "padding"), spatial, 0)),
                ),
            )
        )
    for axis in axes[lead:]:
        site.freeze(axis, f"{site.node.target} slides over it")
    return Effect(outputs=tuple((*axes[:lead], *site.fixed(shape[lead:])) for shape in site.shapes()))
