"""Products of vectors and matrices beside the usual contractions, and views that move channels into space."""

from __future__ import annotations

import torch

from shrinkspeech.axes.algebra import product
from shrinkspeech.rules.contraction import contract
from shrinkspeech.rules.registry import Effect, Literal, Site, rule

aten = torch.ops.aten


@rule(aten.outer.default, aten.ger.default)
def outer(site: Site) -> Effect:
    return contract(site, "i, j -> i j", site.arg(0), site.arg(1))


@rule(aten.mv.default)
def mv(site: Site) -> Effect:
    return contract(site, "m k, k -> m", site.arg(0), site.arg(1))


@rule(aten.dot.default)
def dot(site: Site) -> Effect:
    return contract(site, "k, k ->", site.arg(0), site.arg(1))


@rule(aten.pixel_shuffle.default)
def pixel_shuffle(site: Site) -> Effect:
    """``[…, C·r·r, H, W] → […, C, H·r, W·r]``."""
    *lead, channels, high, wide = site.axes(site.arg(0))
    factor = site.arg(1)
    parts = site.unifier.split(channels, [channels.size // factor**2, factor, factor], site.why)
    for part in parts[1:]:
        site.freeze(part, f"{site.node.target} moves it into space")
    return Effect(outputs=((*lead, parts[0], product(high, parts[1]), product(wide, parts[2])),))


@rule(aten.channel_shuffle.default)
def channel_shuffle(site: Site) -> Effect:
    """``[B, (g c), …] → [B, (c g), …]``."""
    batch, channels, *rest = site.axes(site.arg(0))
    group, inner = site.unifier.split(channels, [site.arg(1), channels.size // site.arg(1)], site.why)
    return Effect(outputs=((batch, product(inner, group), *rest),), literals=(Literal(site.path(1, "groups"), group),))
