"""Convolutions: ``b (g i) u+k, (g o) i k -> b (g o) u``, one ``u`` and ``k`` for each spatial axis.

With one group g is nothing; a depthwise one has i = 1, so that it reads no other channel than its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from shrinkspeech.axes.algebra import Axis, Fixed
from shrinkspeech.rules.contraction import contract
from shrinkspeech.rules.registry import Effect, Literal, Site, rule
from shrinkspeech.rules.windows import each, single_taps

aten = torch.ops.aten


@rule(
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
)
def conv(site: Site) -> Effect:
    moves = [not plain for plain in plain_windows(site)]
    over = " ".join(f"u{i}+k{i}" if moved else f"u{i}" for i, moved in enumerate(moves))
    taps, out = (" ".join(f"{letter}{i}" for i in range(len(moves))) for letter in "ku")
    return grouped(site, f"... (g i) {over}, (g o) i {taps} -> ... (g o) {out}")


@rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def conv_transpose(site: Site) -> Effect:
    """Every input position meets the whole kernel: the window slides over the output."""
    rank = len(plain_windows(site))
    spatial, taps = (" ".join(f"{letter}{i}" for i in range(rank)) for letter in "tk")
    out = " ".join(f"t{i}+k{i}" for i in range(rank))
    for axis in site.axes(site.arg(0))[-rank:]:
        site.freeze(axis, f"{site.node.target} slides over it")
    return grouped(site, f"... (g i) {spatial}, (g i) o {taps} -> ... (g o) {out}")


def plain_windows(site: Site) -> list[bool]:
    """For each spatial axis whether the kernel is a single tap that meets every position."""
    taps = site.shape(site.arg(1))[2:]
    return single_taps(taps, each(site.arg(3, "stride"), len(taps), 1), each(site.arg(4, "padding"), len(taps), 0))


def grouped(site: Site, equation: str) -> Effect:
    """A contraction whose count of groups is an argument of the node."""
    count = site.arg(6, "groups", 1)
    group = count_of_groups(site, count)
    effect = contract(site, equation, site.arg(0), site.arg(1), bias=site.arg(2, "bias"), g=group)
    literals = (Literal(site.path(6, "groups"), group),) if isinstance(count, int) and count > 1 else ()
    return replace(effect, literals=literals)


def count_of_groups(site: Site, count: Any) -> Axis:
    """An axis of its own; one of fixed size where the count is computed while the model runs."""
    if isinstance(count, int):
        return site.unifier.fresh(count)
    return Fixed(site.number(count), f"{site.node.target} computes its count of groups")
