"""Operators that part one axis into several and put them together otherwise: each is one equation."""

from __future__ import annotations

import torch

from shrinkspeech.axes.algebra import Fixed
from shrinkspeech.rules.equations import bind
from shrinkspeech.rules.registry import Effect, Literal, Site, rule

aten = torch.ops.aten


@rule(aten.glu.default)
def glu(site: Site) -> Effect:
    """The two halves of the axis are one label: ``a · sigmoid(b)``."""
    rank = len(site.shape())
    dim = site.arg(1, "dim", -1) % rank
    axes = [f"a{i}" for i in range(rank)]
    halved = [f"(half {axis})" if i == dim else axis for i, axis in enumerate(axes)]
    found = bind(site, f"{' '.join(halved)} -> {' '.join(axes)}", site.arg(0), half=Fixed(2, "the halves of a gate"))
    return Effect(outputs=(found.outputs,))


@rule(aten.channel_shuffle.default)
def channel_shuffle(site: Site) -> Effect:
    group = site.unifier.fresh(site.arg(1, "groups"))
    found = bind(site, "b (g c) ... -> b (c g) ...", site.arg(0), g=group)
    return Effect(outputs=(found.outputs,), literals=(Literal(site.path(1, "groups"), group),))


@rule(aten.pixel_shuffle.default)
def pixel_shuffle(site: Site) -> Effect:
    factor = Fixed(site.arg(1), f"{site.node.target} moves it into space")
    found = bind(site, "... (c r s) h w -> ... c (h r) (w s)", site.arg(0), r=factor, s=factor)
    return Effect(outputs=(found.outputs,))


@rule(aten.pixel_unshuffle.default)
def pixel_unshuffle(site: Site) -> Effect:
    factor = Fixed(site.arg(1), f"{site.node.target} moves it into channels")
    found = bind(site, "... c (h r) (w s) -> ... (c r s) h w", site.arg(0), r=factor, s=factor)
    return Effect(outputs=(found.outputs,))
