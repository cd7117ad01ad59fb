"""Convolutions, matrix products and attention."""

from __future__ import annotations

from typing import Any

import torch
from samples import Sample, apply, conv, conv2, linear, randn, tensor
from torch import Tensor, nn
from torch.nn import functional as F

aten = torch.ops.aten
SOUND, IMAGE, FRAMES = randn(2, 3, 24), randn(2, 2, 9, 10), randn(2, 7, 6)


def chain(*layers: Any) -> Any:
    return lambda: nn.Sequential(*(layer() for layer in layers))


def one(a: Any, b: Any) -> Any:
    """Two convolutions with a nonlinearity between them."""
    return chain(a, nn.ReLU, b)


def attention(m: Any, x: Tensor) -> Tensor:
    """Four heads of q, k and v from separate layers."""
    batch, time, _ = x.shape
    q, k, v = (layer(x).view(batch, time, 4, -1).transpose(1, 2) for layer in (m.q, m.k, m.v))
    y = F.scaled_dot_product_attention(q, k, v)
    return m.out(y.transpose(1, 2).reshape(batch, time, -1))


def masked_attention(m: Any, x: Tensor) -> Tensor:
    batch, time, _ = x.shape
    q, k, v = m.qkv(x).view(batch, time, 3, 4, 5).permute(2, 0, 3, 1, 4).unbind(0)
    mask = torch.ones(time, time, dtype=torch.bool).tril()
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return m.out(y.transpose(1, 2).flatten(2))


def own_attention(m: Any, x: Tensor) -> Tensor:
    """Attention by matrix products and softmax."""
    q, k, v = m.qkv(x).chunk(3, dim=-1)
    score = (q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5
    return m.out(score.softmax(-1) @ v)


def self_attention(m: Any, x: Tensor) -> Tensor:
    y, _ = m.attend(m.inner(x), m.inner(x), m.inner(x), need_weights=m.weights)
    return m.out(y)


QKV = {"q": linear(6, 20), "k": linear(6, 20), "v": linear(6, 20), "out": linear(20, 3)}


def mha(bias: bool) -> Any:
    return lambda: nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)


SAMPLES = [
    Sample("conv1d", one(conv(3, 8), conv(8, 4)), SOUND, (aten.conv1d.default,)),
    Sample("conv1d_strided", one(conv(3, 8, stride=2), conv(8, 4, dilation=2)), SOUND, (aten.conv1d.default,)),
    Sample("conv1d_same", one(conv(3, 8, 4, padding="same"), conv(8, 4, padding="same")), SOUND, (aten.conv1d.padding,)),
    Sample("conv1d_grouped", chain(conv(3, 12), conv(12, 18, groups=3), nn.ReLU, conv(18, 4)), SOUND, (aten.conv1d.default,), 3),
    Sample("conv1d_two_groupings", chain(conv(3, 12), conv(12, 12, groups=2), conv(12, 12, groups=4), conv(12, 4)), SOUND, (), 1),
    Sample("conv1d_depthwise", chain(conv(3, 8), conv(8, 8, groups=8), nn.ReLU, conv(8, 4)), SOUND, (aten.conv1d.default,)),
    Sample("conv1d_multiplier", chain(conv(3, 8), conv(8, 24, groups=8), nn.ReLU, conv(24, 4)), SOUND, (aten.conv1d.default,), 2),
    Sample("conv1d_depthwise_same", chain(conv(3, 8), conv(8, 8, groups=8, padding="same"), conv(8, 4)), SOUND, (aten.conv1d.padding,)),
    Sample("conv1d_no_bias", one(conv(3, 8, bias=False), conv(8, 4, bias=False)), SOUND, (aten.conv1d.default,)),
    Sample("conv2d", one(conv2(2, 8), conv2(8, 4, (1, 3))), IMAGE, (aten.conv2d.default,)),
    Sample("conv2d_strided", one(conv2(2, 8, stride=(2, 1)), conv2(8, 4, dilation=(1, 2))), IMAGE, (aten.conv2d.default,)),
    Sample("conv2d_same", one(conv2(2, 8, padding="same"), conv2(8, 4, padding="same")), IMAGE, (aten.conv2d.padding,)),
    Sample("conv2d_grouped", chain(conv2(2, 8), conv2(8, 12, groups=2), nn.ReLU, conv2(12, 4)), IMAGE, (aten.conv2d.default,), 3),
    Sample("conv2d_depthwise", chain(conv2(2, 8), conv2(8, 8, groups=8), conv2(8, 16, 1), nn.ReLU, conv2(16, 4, 1)), IMAGE, (), 2),
    Sample("conv3d", one(lambda: nn.Conv3d(2, 6, 3), lambda: nn.Conv3d(6, 3, 1)), randn(2, 2, 5, 5, 6), (aten.conv3d.default,)),
    Sample(
        "conv_transpose1d",
        one(lambda: nn.ConvTranspose1d(3, 8, 4, stride=2), lambda: nn.ConvTranspose1d(8, 4, 3)),
        SOUND,
        (aten.conv_transpose1d.default,),
    ),
    Sample(
        "conv_transpose1d_grouped",
        chain(conv(3, 12), lambda: nn.ConvTranspose1d(12, 18, 4, stride=2, groups=3), nn.ReLU, conv(18, 2)),
        SOUND,
        (aten.conv_transpose1d.default,),
        3,
    ),
    Sample(
        "conv_transpose1d_depthwise",
        chain(conv(3, 8), lambda: nn.ConvTranspose1d(8, 8, 4, stride=2, groups=8), nn.ReLU, conv(8, 2)),
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
    Sample("tied_weights", apply(lambda m, x: m.b(m.a(x)) @ m.a.weight, a=linear(6, 9), b=linear(9, 9)), FRAMES, (aten.matmul.default,)),
    Sample("matmul", apply(lambda m, x: torch.relu(x @ m.w) @ m.v, w=tensor(6, 9), v=tensor(9, 4)), FRAMES, (aten.matmul.default,)),
    Sample(
        "matmul_ranks",
        apply(lambda m, x: (m.u @ m.a(x).transpose(1, 2)) @ m.b(x) + (m.a(x) @ m.u)[..., :1], a=linear(6, 9), b=linear(6, 4), u=tensor(9)),
        FRAMES,
        (aten.matmul.default,),
        referee=False,
    ),
    Sample("matmul_dot", apply(lambda m, x: x * torch.matmul(m.a * m.b, m.b), a=tensor(9), b=tensor(9)), FRAMES, (aten.matmul.default,), referee=False),
    Sample("outer_products", apply(lambda m, x: m.o(m.a(x).mT @ m.b(x)), a=linear(6, 9), b=linear(6, 8), o=linear(8, 2)), FRAMES, (), 1),
    Sample("mm", apply(lambda m, x: torch.mm(torch.mm(x, m.w).relu(), m.v), w=tensor(6, 9), v=tensor(9, 4)), randn(5, 6), (aten.mm.default,)),
    Sample(
        "bmm",
        apply(lambda m, x: m.o(torch.bmm(torch.bmm(m.a(x), m.b(x).transpose(1, 2)), m.c(x))), a=linear(6, 9), b=linear(6, 9), c=linear(6, 8), o=linear(8, 2)),
        FRAMES,
        (aten.bmm.default,),
        2,
    ),
    Sample(
        "addmm",
        apply(lambda m, x: torch.addmm(m.c, torch.addmm(m.b, x, m.w).relu(), m.v), b=tensor(9), w=tensor(6, 9), c=tensor(1, 4), v=tensor(9, 4)),
        randn(5, 6),
        (aten.addmm.default,),
    ),
    Sample(
        "addmm_scaled",
        apply(lambda m, x: torch.addmm(x[:, :4], torch.addmm(m.b, x, m.w, beta=0.5, alpha=2.0), m.v), b=tensor(9), w=tensor(6, 9), v=tensor(9, 4)),
        randn(5, 6),
        (aten.addmm.default,),
    ),
    Sample(
        "baddbmm",
        apply(lambda m, x: m.o(torch.baddbmm(m.s(x), m.a(x), m.w.expand(x.shape[0], 9, 8))), s=linear(6, 8), a=linear(6, 9), w=tensor(1, 9, 8), o=linear(8, 2)),
        FRAMES,
        (aten.baddbmm.default,),
        2,
    ),
    Sample(
        "einsum",
        apply(lambda m, x: torch.einsum("bts,bsc->btc", torch.einsum("btc,bsc->bts", m.a(x), m.b(x)), x), a=linear(6, 9), b=linear(6, 9)),
        FRAMES,
        (aten.einsum.default,),
    ),
    Sample("einsum_weight", apply(lambda m, x: torch.einsum("btc,cd->bdt", m.a(x), m.w), a=linear(6, 9), w=tensor(9, 4)), FRAMES, (aten.einsum.default,)),
    Sample("einsum_implicit", apply(lambda m, x: m.b(torch.einsum("bti,io", x, m.w).mT), w=tensor(6, 9), b=linear(9, 4)), FRAMES, (aten.einsum.default,)),
    Sample("einsum_dots", apply(lambda m, x: m.b(torch.einsum("...i,io->...o", x, m.w)), w=tensor(6, 9), b=linear(9, 4)), FRAMES, (aten.einsum.default,)),
    Sample(
        "einsum_three",
        apply(lambda m, x: torch.einsum("bti,ij,jo->bto", m.a(x), m.w, m.v), a=linear(6, 9), w=tensor(9, 9), v=tensor(9, 4)),
        FRAMES,
        (aten.einsum.default,),
        0,
        frozen=("einsum",),
        referee=False,
    ),
    Sample("attention", apply(attention, **QKV), FRAMES, (aten.scaled_dot_product_attention.default,), 3),
    Sample("attention_packed", apply(masked_attention, qkv=linear(6, 60), out=linear(20, 3)), FRAMES, (aten.tril.default,), 1),
    Sample("attention_by_hand", apply(own_attention, qkv=linear(6, 24), out=linear(8, 3)), FRAMES, (aten.matmul.default,), 2),
    Sample("attention_module", apply(self_attention, inner=linear(6, 12), attend=mha(True), out=linear(12, 2), weights=lambda: False), FRAMES, (), 2),
    Sample("attention_module_weights", apply(self_attention, inner=linear(6, 12), attend=mha(False), out=linear(12, 2), weights=lambda: True), FRAMES, (), 2),
]
