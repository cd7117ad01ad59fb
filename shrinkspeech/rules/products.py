"""Products of vectors beside the usual contractions."""

from __future__ import annotations

import torch

from shrinkspeech.rules.contraction import contract
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
