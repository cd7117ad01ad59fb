"""Attention: ``q d, k d -> q k`` and then ``q k, k v -> q v`` for every head."""

from __future__ import annotations

import torch
from torch import fx

from shrinkspeech.rules.equations import bind
from shrinkspeech.rules.registry import Effect, Read, Site, Term, rule

aten = torch.ops.aten


@rule(aten.scaled_dot_product_attention.default)
def attention(site: Site) -> Effect:
    """Grouped queries have h heads for each head g of keys and values. The scale is pinned before slicing."""
    query, key, value, mask = site.arg(0), site.arg(1), site.arg(2), site.arg(3, "attn_mask")
    several = bool(site.arg(7, "enable_gqa", False))
    heads, few = ("(g h)", "g") if several else ("", "")
    found = bind(site, f"... {heads} q d, ... {few} k d, ... {few} k v -> ... {heads} q v", query, key, value)
    table, axes = found.table, site.axes(query)
    for letter in "qk":
        site.freeze(table[letter], "attention is taken over it")
    scores = (*found.outputs[:-1], table["k"])
    if isinstance(mask, fx.Node):
        for axis, out in zip(reversed(site.axes(mask)), reversed(scores), strict=False):
            if axis.size != 1:
                site.unify(axis, out)
    return Effect(
        outputs=(found.outputs,),
        reads=(Read(query, len(axes) - 1, axes[-1]),),
        terms=(Term(2.0, (*scores, table["d"])), Term(2.0, (*scores, table["v"]))),
    )
