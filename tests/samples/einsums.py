"""Products of several tensors: einsum, and two features with a weight between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from samples import Sample, apply, linear, randn, tensor

aten = torch.ops.aten
FRAMES = randn(2, 7, 6)


def einsum(
    name: str,
    forward: Callable[..., Any],
    min_groups: int = 1,
    *,
    frozen: tuple[str, ...] = (),
    unknown: bool = False,
    referee: bool = True,
    **layers: Callable[[], Any],
) -> Sample:
    """A sample of ``aten.einsum`` on frames ``[2, 7, 6]``."""
    made, operators = apply(forward, **layers), (aten.einsum.default,)
    return Sample(name, made, FRAMES, operators, min_groups, frozen, unknown, referee)


SAMPLES = [
    einsum(
        "einsum",
        lambda m, x: torch.einsum("bts,bsc->btc", torch.einsum("btc,bsc->bts", m.a(x), m.b(x)), x),
        a=linear(6, 9),
        b=linear(6, 9),
    ),
    einsum("einsum_weight", lambda m, x: torch.einsum("btc,cd->bdt", m.a(x), m.w), a=linear(6, 9), w=tensor(9, 4)),
    einsum("einsum_implicit", lambda m, x: m.b(torch.einsum("bti,io", x, m.w).mT), w=tensor(6, 9), b=linear(9, 4)),
    einsum("einsum_dots", lambda m, x: m.b(torch.einsum("...i,io->...o", x, m.w)), w=tensor(6, 9), b=linear(9, 4)),
    einsum(
        "einsum_three",
        lambda m, x: torch.einsum("bti,ij,jo->bto", m.a(x), m.w, m.v),
        2,
        a=linear(6, 9),
        w=tensor(9, 8),
        v=tensor(8, 4),
    ),
    einsum(
        "einsum_path",
        lambda m, x: aten.einsum.default("bti,ij,jo->bto", [m.a(x), m.w, m.v], path=[1, 2, 0, 1]),
        2,
        a=linear(6, 9),
        w=tensor(9, 8),
        v=tensor(8, 4),
    ),
    einsum(
        "einsum_sums",
        lambda m, x: torch.einsum("bti,bsj,ik->btsk", m.a(x), m.b(x), m.w).sum(2),
        2,
        referee=False,
        a=linear(6, 9),
        b=linear(6, 5),
        w=tensor(9, 4),
    ),
    einsum(
        "einsum_elements",
        lambda m, x: m.c(torch.einsum("bti,btj->btij", m.a(x), m.b(x)).flatten(2)),
        2,
        a=linear(6, 4),
        b=linear(6, 3),
        c=linear(12, 2),
    ),
    einsum(
        "einsum_weight_alone",
        lambda m, x: m.b(torch.einsum("bti,jo->bto", m.a(x), m.w)),
        3,
        a=linear(6, 8),
        w=tensor(5, 9),
        b=linear(9, 4),
    ),
    einsum("einsum_one", lambda m, x: m.b(torch.einsum("bti->bit", m.a(x)).mT), 1, a=linear(6, 8), b=linear(8, 4)),
    einsum(
        "einsum_diagonal",
        lambda m, x: m.b(torch.einsum("btii->bti", m.a(x).unflatten(-1, (3, 3)))),
        0,
        frozen=("einsum",),
        unknown=True,
        a=linear(6, 9),
        b=linear(3, 4),
    ),
    Sample(
        "einsum_broadcast",
        apply(
            lambda m, x: torch.einsum("bti,io->bto", m.a(x).mean(-1, keepdim=True), m.w), a=linear(6, 8), w=tensor(5, 4)
        ),
        FRAMES,
        (),
        2,
        referee=False,
    ),
    Sample(
        "bilinear",
        apply(
            lambda m, x: m.c(m.f(m.a(x).tanh(), m.b(x))),
            a=linear(6, 8),
            b=linear(6, 7),
            f=lambda: nn.Bilinear(8, 7, 5),
            c=linear(5, 4),
        ),
        FRAMES,
        (aten.bilinear.default,),
        3,
        referee=False,  # torch does not count it
    ),
]
