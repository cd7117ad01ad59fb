"""Attention, by one operator and by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samples import Sample, apply, linear, randn, tensor

aten = torch.ops.aten
SOUND, IMAGE, FRAMES = randn(2, 3, 24), randn(2, 2, 9, 10), randn(2, 7, 6)


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


def biased_attention(m: Any, x: Tensor) -> Tensor:
    """A mask with one table for each head."""
    q, k, v = (layer(x).unflatten(-1, (4, 5)).transpose(1, 2) for layer in (m.q, m.k, m.v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=m.table)
    return m.out(y.transpose(1, 2).flatten(2))


def computed_mask(m: Any, x: Tensor) -> Tensor:
    """A mask over channels that a layer computes, and one over time."""
    y = m.inner(x)
    y = torch.where(m.gate(x) > 0, y, 0.5).masked_fill(y > 1, 0.0)
    return m.out(y.masked_fill(x[..., :1] > 0, 0.0).tanh())


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
    Sample("attention", apply(attention, **QKV), FRAMES, (aten.scaled_dot_product_attention.default,), 3),
    Sample(
        "attention_packed",
        apply(masked_attention, qkv=linear(6, 60), out=linear(20, 3)),
        FRAMES,
        (aten.tril.default,),
        1,
    ),
    Sample(
        "attention_table",
        apply(biased_attention, **QKV, table=tensor(4, 7, 7)),
        FRAMES,
        (aten.scaled_dot_product_attention.default,),
        3,
    ),
    Sample(
        "mask_of_channels",
        apply(computed_mask, inner=linear(6, 12), gate=linear(6, 12), out=linear(12, 3)),
        FRAMES,
        (aten.where.ScalarOther, aten.masked_fill.Scalar),
        1,
    ),
    Sample(
        "attention_by_hand",
        apply(own_attention, qkv=linear(6, 24), out=linear(8, 3)),
        FRAMES,
        (aten.matmul.default,),
        2,
    ),
    Sample(
        "attention_module",
        apply(self_attention, inner=linear(6, 12), attend=mha(True), out=linear(12, 2), weights=lambda: False),
        FRAMES,
        (),
        2,
    ),
    Sample(
        "attention_module_weights",
        apply(self_attention, inner=linear(6, 12), attend=mha(False), out=linear(12, 2), weights=lambda: True),
        FRAMES,
        (),
        2,
    ),
]
