"""Convolutions and matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from samples import Sample, apply, chain, conv, conv2, linear, randn, tensor

aten = torch.ops.aten
SOUND, IMAGE, FRAMES = randn(2, 3, 24), randn(2, 2, 9, 10), randn(2, 7, 6)


def one(a: Any, b: Any) -> Any:
    """Two convolutions with a nonlinearity between them."""
    return chain(a, nn.ReLU, b)


SAMPLES = [
    Sample("conv1d", one(conv(3, 8), conv(8, 4)), SOUND, (aten.conv1d.default,)),
    Sample("conv1d_strided", one(conv(3, 8, stride=2), conv(8, 4, dilation=2)), SOUND, (aten.conv1d.default,)),
    Sample(
        "conv1d_same", one(conv(3, 8, 4, padding="same"), conv(8, 4, padding="same")), SOUND, (aten.conv1d.padding,)
    ),
    Sample("conv1d_no_bias", one(conv(3, 8, bias=False), conv(8, 4, bias=False)), SOUND, (aten.conv1d.default,)),
    Sample("conv2d", one(conv2(2, 8), conv2(8, 4, (1, 3))), IMAGE, (aten.conv2d.default,)),
    Sample(
        "conv2d_strided", one(conv2(2, 8, stride=(2, 1)), conv2(8, 4, dilation=(1, 2))), IMAGE, (aten.conv2d.default,)
    ),
    Sample("conv2d_same", one(conv2(2, 8, padding="same"), conv2(8, 4, padding="same")), IMAGE, (aten.conv2d.padding,)),
    Sample(
        "conv3d",
        one(lambda: nn.Conv3d(2, 6, 3), lambda: nn.Conv3d(6, 3, 1)),
        randn(2, 2, 5, 5, 6),
        (aten.conv3d.default,),
    ),
    Sample(
        "conv_transpose1d",
        one(lambda: nn.ConvTranspose1d(3, 8, 4, stride=2), lambda: nn.ConvTranspose1d(8, 4, 3)),
        SOUND,
        (aten.conv_transpose1d.default,),
    ),
    Sample(
        "conv_transpose2d",
        chain(conv2(2, 6), lambda: nn.ConvTranspose2d(6, 8, 3, stride=2, output_padding=1), nn.ReLU, conv2(8, 2)),
        IMAGE,
        (aten.conv_transpose2d.input,),
        2,
    ),
    Sample(
        "conv_transpose3d",
        chain(lambda: nn.Conv3d(2, 6, 3), lambda: nn.ConvTranspose3d(6, 5, 3), lambda: nn.Conv3d(5, 2, 1)),
        randn(2, 2, 5, 5, 6),
        (aten.conv_transpose3d.input,),
        2,
    ),
    Sample("linear", chain(linear(6, 9), nn.ReLU, linear(9, 5, bias=False)), FRAMES, (aten.linear.default,)),
    Sample(
        "tied_weights",
        apply(lambda m, x: m.b(m.a(x)) @ m.a.weight, a=linear(6, 9), b=linear(9, 9)),
        FRAMES,
        (aten.matmul.default,),
    ),
    Sample(
        "matmul",
        apply(lambda m, x: torch.relu(x @ m.w) @ m.v, w=tensor(6, 9), v=tensor(9, 4)),
        FRAMES,
        (aten.matmul.default,),
    ),
    Sample(
        "matmul_ranks",
        apply(
            lambda m, x: (m.u @ m.a(x).transpose(1, 2)) @ m.b(x) + (m.a(x) @ m.u)[..., :1],
            a=linear(6, 9),
            b=linear(6, 4),
            u=tensor(9),
        ),
        FRAMES,
        (aten.matmul.default,),
        referee=False,
    ),
    Sample(
        "matmul_dot",
        apply(lambda m, x: x * torch.matmul(m.a * m.b, m.b), a=tensor(9), b=tensor(9)),
        FRAMES,
        (aten.matmul.default,),
        referee=False,
    ),
    Sample(
        "outer_products",
        apply(lambda m, x: m.o(m.a(x).mT @ m.b(x)), a=linear(6, 9), b=linear(6, 8), o=linear(8, 2)),
        FRAMES,
        (),
        1,
    ),
    Sample(
        "mm",
        apply(lambda m, x: torch.mm(torch.mm(x, m.w).relu(), m.v), w=tensor(6, 9), v=tensor(9, 4)),
        randn(5, 6),
        (aten.mm.default,),
    ),
    Sample(
        "bmm",
        apply(
            lambda m, x: m.o(torch.bmm(torch.bmm(m.a(x), m.b(x).transpose(1, 2)), m.c(x))),
            a=linear(6, 9),
            b=linear(6, 9),
            c=linear(6, 8),
            o=linear(8, 2),
        ),
        FRAMES,
        (aten.bmm.default,),
        2,
    ),
    Sample(
        "addmm",
        apply(
            lambda m, x: torch.addmm(m.c, torch.addmm(m.b, x, m.w).relu(), m.v),
            b=tensor(9),
            w=tensor(6, 9),
            c=tensor(1, 4),
            v=tensor(9, 4),
        ),
        randn(5, 6),
        (aten.addmm.default,),
    ),
    Sample(
        "addmm_scaled",
        apply(
            lambda m, x: torch.addmm(x[:, :4], torch.addmm(m.b, x, m.w, beta=0.5, alpha=2.0), m.v),
            b=tensor(9),
            w=tensor(6, 9),
            v=tensor(9, 4),
        ),
        randn(5, 6),
        (aten.addmm.default,),
    ),
    Sample(
        "baddbmm",
        apply(
            lambda m, x: m.o(torch.baddbmm(m.s(x), m.a(x), m.w.expand(x.shape[0], 9, 8))),
            s=linear(6, 8),
            a=linear(6, 9),
            w=tensor(1, 9, 8),
            o=linear(8, 2),
        ),
        FRAMES,
        (aten.baddbmm.default,),
        2,
    ),
    Sample(
        "conv1d_point",
        apply(lambda m, x: m.c(m.b(m.a(x).tanh())), a=linear(24, 10), b=conv(3, 8, 1), c=linear(10, 4)),
        SOUND,
        (aten.conv1d.default,),
        1,
    ),
    Sample(
        "conv1d_point_strided",
        apply(lambda m, x: m.c(m.b(m.a(x).tanh())), a=linear(24, 10), b=conv(3, 8, 1, stride=2), c=linear(5, 4)),
        SOUND,
        (),
        0,
        frozen=("slides over it",),
    ),
    Sample(
        "conv1d_point_padded",
        apply(lambda m, x: m.c(m.b(m.a(x).tanh())), a=linear(24, 10), b=conv(3, 8, 1, padding=1), c=linear(12, 4)),
        SOUND,
        (),
        0,
        frozen=("slides over it",),
    ),
    Sample(
        "conv2d_point_on_one_side",
        apply(lambda m, x: m.c(m.b(m.a(x).tanh())), a=linear(10, 7), b=conv2(2, 5, (3, 1)), c=linear(7, 4)),
        IMAGE,
        (aten.conv2d.default,),
        1,
    ),
]
