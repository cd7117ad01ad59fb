"""Products beside the usual contractions: of vectors, and of two features with a weight between them."""

from __future__ import annotations

from dataclasses import replace

import torch

from shrinkspeech.rules.contraction import contract, effect_of
from shrinkspeech.rules.einsum import steps
from shrinkspeech.rules.equations import bind
from shrinkspeech.rules.registry import Effect, Site, rule

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


@rule(aten.bilinear.default)
def bilinear(site: Site) -> Effect:
    found = bind(site, "... i, o i j, ... j -> ... o", site.arg(0), site.arg(2), site.arg(1))
    *held, output = [letters for letters, _ in found.held]
    terms = tuple(steps(held, output, None, found.table))
    return replace(effect_of(site, found, site.arg(3, "bias")), terms=terms)
