"""Activations with parameters, tables, sizes as numbers, and blocks of speech models."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samples import conv, linear, randn, tensor
from samples.shapes import sample

aten = torch.ops.aten
FRAMES, SOUND, IMAGE, WAVE = randn(2, 7, 6), randn(2, 3, 24), randn(2, 1, 8, 10), randn(2, 400)


def mel(m: Any, x: Tensor) -> Tensor:
    """A log-mel front end, then a convolution and a linear layer."""
    power = (
        torch.view_as_real(torch.stft(x, 64, 32, window=torch.hann_window(64), return_complex=True)).square().sum(-1)
    )
    return m.b(m.a((m.filters.T @ power + 1e-6).log()).relu().mT)


def centred(x: Tensor) -> Tensor:
    """The overload that pads by itself."""
    return aten.stft.center(x, 64, 32, 64, torch.hann_window(64), True, "constant", False, True, True).abs()


def masked(m: Any, x: Tensor) -> Tensor:
    """Spectrum, a mask, and back to samples."""
    window = torch.hann_window(64)
    z = torch.stft(x, 64, 32, window=window, return_complex=True)
    mask = m.b(m.a(z.abs().mT).relu()).sigmoid().mT
    return torch.istft(z * mask, 64, 32, window=window, length=x.shape[-1])


def fourier(x: Tensor) -> Tensor:
    """Low frequencies only, of every channel."""
    return torch.fft.irfft(torch.fft.rfft(x, dim=-1) * (torch.arange(x.shape[-1] // 2 + 1) < 5), 22)


def steps(m: Any, x: Tensor) -> Tensor:
    """Second differences over time, from the frames of other layers on."""
    before, after = m.c(x)[:, :2], m.d(x)[:, :1]
    return m.b(torch.diff(m.a(x), 2, dim=1, prepend=before, append=after).tanh())


def wavenet(m: Any, x: Tensor) -> Tensor:
    """Gated residual and skip."""
    y, total = m.inp(x), 0
    for gate, mix in ((m.g1, m.m1), (m.g2, m.m2)):
        a, b = gate(y).chunk(2, 1)
        residual, skipped = mix(a.tanh() * b.sigmoid()).split([8, 6], 1)
        y, total = y + residual, total + skipped
    return m.out(total.relu())


def tasnet(m: Any, x: Tensor) -> Tensor:
    """Masks for two speakers on one encoder."""
    code = m.enc(x.unsqueeze(1)).relu()
    masks = m.mask(code).view(x.shape[0], 2, -1, code.shape[-1]).sigmoid()
    return m.dec((masks * code.unsqueeze(1)).flatten(0, 1))


def conformer(m: Any, x: Tensor) -> Tensor:
    """Feed-forward, attention and a convolution with GLU around one residual stream."""
    y = m.inp(x)
    y = y + 0.5 * m.f2(F.silu(m.f1(m.n1(y))))
    z = m.n2(y)
    y = y + m.att(z, z, z, need_weights=False)[0]
    z = F.glu(m.p1(m.n3(y).transpose(1, 2)), 1)
    y = y + m.p2(F.silu(m.bn(m.dw(z)))).transpose(1, 2)
    return m.out(m.n4(y))


CONFORMER = {
    "inp": linear(6, 12),
    "n1": lambda: nn.LayerNorm(12),
    "f1": linear(12, 20),
    "f2": linear(20, 12),
    "n2": lambda: nn.LayerNorm(12),
    "att": lambda: nn.MultiheadAttention(12, 3, batch_first=True),
    "n3": lambda: nn.LayerNorm(12),
    "p1": conv(12, 24, 1),
    "dw": conv(12, 12, groups=12, padding=1),
    "bn": lambda: nn.BatchNorm1d(12),
    "p2": conv(12, 12, 1),
    "n4": lambda: nn.LayerNorm(12),
    "out": linear(12, 2),
}


def arithmetic(m: Any, x: Tensor) -> Tensor:
    """Sizes as numbers: every operator on them."""
    batch, time, _ = x.shape
    y = m.a(x).view(batch, -1, 12)
    keep = min(max(time // 2 - 1, 1), time + 1)
    y = y[:, : keep + time % 2]
    scale = (time * 2 - 3) / 4 + math.ceil(time / 2) + math.floor(time / 3) + math.trunc(time / 5) + time**2 - (-time)
    return m.b(y) * scale / x.numel()


NUMBERS = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.floordiv,
    operator.truediv,
    operator.mod,
    operator.neg,
    operator.pow,
    math.ceil,
    math.floor,
    math.trunc,
    torch.sym_max,
    torch.sym_min,
    torch.sym_float,
)
WINDOWS = {
    aten.hann_window: {"default": (), "periodic": (True,)},
    aten.hamming_window: {
        "default": (),
        "periodic": (False,),
        "periodic_alpha": (True, 0.5),
        "periodic_alpha_beta": (True, 0.5, 0.4),
    },
    aten.blackman_window: {"default": (), "periodic": (False,)},
    aten.bartlett_window: {"default": (), "periodic": (False,)},
    aten.kaiser_window: {"default": (), "periodic": (False,), "beta": (True, 8.0)},
}


def windowed(m: nn.Module, x: Tensor) -> Tensor:
    """Frames under the sum of every window that torch has."""
    y = m.a(x)
    windows = [
        getattr(packet, name)(y.shape[1], *given) for packet, forms in WINDOWS.items() for name, given in forms.items()
    ]
    return m.b(y * sum(windows)[:, None])


SAMPLES = [
    sample(
        "mel",
        mel,
        (aten.stft.default, aten.view_as_real.default),
        1,
        WAVE,
        {"filters": tensor(33, 10), "a": conv(10, 8), "b": linear(8, 2)},
    ),
    sample(
        "stft_centred",
        lambda m, x: m.b(m.a(centred(x)).relu()),
        aten.stft.center,
        1,
        WAVE,
        {"a": conv(33, 8), "b": conv(8, 2)},
    ),
    sample("istft", masked, aten.istft.default, 1, WAVE, {"a": linear(33, 8), "b": linear(8, 33)}),
    sample(
        "real_fft",
        lambda m, x: m.b(fourier(m.a(x).relu())),
        (aten.fft_rfft.default, aten.fft_irfft.default),
        1,
        SOUND,
        {"a": conv(3, 8), "b": conv(8, 2)},
    ),
    sample(
        "diff",
        steps,
        aten.diff.default,
        1,
        FRAMES,
        {"a": linear(6, 8), "c": linear(6, 8), "d": linear(6, 8), "b": linear(8, 2)},
    ),
    sample(
        "windows",
        windowed,
        tuple(getattr(packet, name) for packet, forms in WINDOWS.items() for name in forms),
        1,
        FRAMES,
        {"a": linear(6, 8), "b": linear(8, 2)},
    ),
    sample(
        "diff_channels",
        lambda m, x: m.b(m.a(x).diff().tanh()),
        aten.diff.default,
        0,
        FRAMES,
        {"a": linear(6, 8), "b": linear(7, 2)},
        frozen=("takes steps along it",),
    ),
    sample(
        "wavenet",
        wavenet,
        aten.split_with_sizes.default,
        4,
        SOUND,
        {
            "inp": conv(3, 8, 1),
            "g1": conv(8, 20, padding=1),
            "m1": conv(10, 14, 1),
            "g2": conv(8, 16, padding=2, dilation=2),
            "m2": conv(8, 14, 1),
            "out": conv(6, 2, 1),
        },
    ),
    sample(
        "tasnet",
        tasnet,
        aten.conv_transpose1d.default,
        1,
        WAVE,
        {
            "enc": conv(1, 10, 8, stride=4),
            "mask": conv(10, 20, 1),
            "dec": lambda: nn.ConvTranspose1d(10, 1, 8, stride=4),
        },
    ),
    sample("conformer", conformer, (aten.glu.default, aten.scaled_dot_product_attention.default), 5, FRAMES, CONFORMER),
    sample(
        "prelu",
        lambda m, x: m.b(m.n(m.p(m.a(x)))),
        aten.prelu.default,
        1,
        SOUND,
        {"a": conv(3, 8), "p": lambda: nn.PReLU(8), "n": nn.PReLU, "b": conv(8, 2)},
    ),
    sample("glu", lambda m, x: m.b(F.glu(m.a(x), 1)), aten.glu.default, 1, SOUND, {"a": conv(3, 16), "b": conv(8, 2)}),
    sample(
        "embedding",
        lambda m, x: m.b(m.a(x).tanh()),
        aten.embedding.default,
        1,
        lambda: (torch.randint(0, 9, (2, 7)),),
        {"a": lambda: nn.Embedding(9, 8), "b": linear(8, 2)},
        frozen=("addressed by number",),
    ),
    sample(
        "film",
        lambda m, x, s: m.b(m.a(x) * m.g(s).unsqueeze(1) + m.h(s).unsqueeze(1)),
        (),
        1,
        lambda: (torch.randn(2, 7, 6), torch.randn(2, 4)),
        {"a": linear(6, 8), "g": linear(4, 8), "h": linear(4, 8), "b": linear(8, 2)},
    ),
    sample(
        "residual",
        lambda m, x: m.b(m.a(x) + m.d(m.c(m.a(x)).relu())),
        (),
        2,
        SOUND,
        {"a": conv(3, 8, 1), "c": conv(8, 10, padding=1), "d": conv(10, 8, 1), "b": conv(8, 2)},
    ),
    sample(
        "weight_norm",
        lambda m, x: m.b(m.a(x).relu()),
        (),
        1,
        SOUND,
        {"a": lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 8, 3)), "b": conv(8, 2)},
    ),
    sample(
        "arithmetic",
        arithmetic,
        (*NUMBERS, aten.sym_size.int, aten.sym_numel.default),
        1,
        FRAMES,
        {"a": linear(6, 12), "b": linear(12, 2)},
    ),
    sample(
        "dropout",
        lambda m, x: m.b(m.d(m.a(x))),
        aten.dropout.default,
        1,
        FRAMES,
        {"a": linear(6, 12), "d": lambda: nn.Dropout(0.2), "b": linear(12, 2)},
    ),
]
