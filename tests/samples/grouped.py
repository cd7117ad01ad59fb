"""Operators whose channels come in groups: convolutions, norms, shuffles and attention, alone and one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samples import Sample, apply, chain, conv, conv2, linear, randn
from samples.shapes import sample

aten = torch.ops.aten
SOUND, IMAGE, FRAMES = randn(2, 3, 20), randn(2, 2, 8, 9), randn(2, 7, 6)


def norm(groups: int, channels: int) -> Any:
    def make() -> nn.Module:
        layer = nn.GroupNorm(groups, channels)
        for parameter in layer.parameters():
            parameter.data = torch.rand_like(parameter) + 0.5
        return layer

    return make


def transposed(inputs: int, outputs: int, kernel: int = 4, **options: Any) -> Any:
    return lambda: nn.ConvTranspose1d(inputs, outputs, kernel, **options)


def shuffle(groups: int) -> Any:
    """Channel shuffle by views, as published code writes it."""

    class Shuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            batch, channels, time = x.shape
            return x.view(batch, groups, channels // groups, time).transpose(1, 2).reshape(batch, channels, time)

    return Shuffle


def residual(m: Any, x: Tensor) -> Tensor:
    """A grouped convolution with a norm of another grouping, added to its input."""
    y = m.a(x)
    return m.b(y + m.norm(m.inner(y)).relu())


def joined(m: Any, x: Tensor) -> Tensor:
    """A norm over two tensors side by side, of which one is a grouped convolution's."""
    y = m.a(x)
    return m.b(m.norm(torch.cat([y, m.inner(y)], 1)).relu())


def grouped_attention(m: Any, x: Tensor) -> Tensor:
    """Six heads of queries, two of keys and values."""
    q, k, v = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (m.q, m.k, m.v))
    return m.out(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2))


def blocks(name: str, target: Any, groups: int, *layers: Any, inputs: Any = SOUND) -> Sample:
    return Sample(name, chain(*layers), inputs, (target,) if target else (), groups)


SAMPLES = [
    blocks("conv1d_grouped", aten.conv1d.default, 3, conv(3, 12), conv(12, 18, groups=3), nn.ReLU, conv(18, 4)),
    blocks("conv1d_narrowing", None, 3, conv(3, 16), conv(16, 8, groups=4), nn.ReLU, conv(8, 4)),
    blocks("two_groupings", None, 1, conv(3, 12), conv(12, 12, groups=2), conv(12, 12, groups=4), conv(12, 4)),
    blocks("depthwise", aten.conv1d.default, 1, conv(3, 8), conv(8, 8, groups=8), nn.ReLU, conv(8, 4)),
    blocks("multiplier", aten.conv1d.default, 2, conv(3, 8), conv(8, 24, groups=8), nn.ReLU, conv(24, 4)),
    blocks("depthwise_same", aten.conv1d.padding, 1, conv(3, 8), conv(8, 8, groups=8, padding="same"), conv(8, 4)),
    blocks("multiplier_norm", None, 3, conv(3, 8), conv(8, 24, groups=8), norm(4, 24), nn.ReLU, conv(24, 4)),
    blocks(
        "conv2d_grouped",
        aten.conv2d.default,
        3,
        conv2(2, 8),
        conv2(8, 12, groups=2),
        nn.ReLU,
        conv2(12, 4),
        inputs=IMAGE,
    ),
    blocks(
        "conv2d_depthwise",
        None,
        2,
        conv2(2, 8),
        conv2(8, 8, groups=8),
        conv2(8, 16, 1),
        nn.ReLU,
        conv2(16, 4, 1),
        inputs=IMAGE,
    ),
    blocks(
        "transposed_grouped",
        aten.conv_transpose1d.default,
        3,
        conv(3, 12),
        transposed(12, 18, stride=2, groups=3),
        nn.ReLU,
        conv(18, 2),
    ),
    blocks(
        "transposed_depthwise",
        aten.conv_transpose1d.default,
        1,
        conv(3, 8),
        transposed(8, 8, stride=2, groups=8),
        nn.ReLU,
        conv(8, 2),
    ),
    blocks("group_norm_many", aten.group_norm.default, 3, conv(3, 16), norm(4, 16), nn.ReLU, conv(16, 9), conv(9, 2)),
    blocks("shuffled", None, 2, conv(3, 16), conv(16, 16, groups=4), shuffle(4), conv(16, 16, groups=4), conv(16, 2)),
    blocks(
        "shuffled_norm", None, 4, conv(3, 16), conv(16, 24, groups=4), shuffle(4), norm(2, 24), nn.ReLU, conv(24, 2)
    ),
    sample(
        "residual_grouped",
        residual,
        aten.group_norm.default,
        2,
        SOUND,
        {"a": conv(3, 16), "inner": conv(16, 16, padding=1, groups=4), "norm": norm(8, 16), "b": conv(16, 2)},
    ),
    sample(
        "joined_grouped",
        joined,
        aten.group_norm.default,
        2,
        SOUND,
        {"a": conv(3, 8), "inner": conv(8, 8, padding=1, groups=2), "norm": norm(4, 16), "b": conv(16, 2)},
    ),
    Sample(
        "attention_grouped",
        apply(grouped_attention, q=linear(6, 24), k=linear(6, 8), v=linear(6, 8), out=linear(24, 3)),
        FRAMES,
        (aten.scaled_dot_product_attention.default,),
        4,
    ),
]
