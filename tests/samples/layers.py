"""Recurrent layers, activations with parameters, tables, sizes as numbers, and blocks of speech models."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from samples import Sample, conv, conv2, linear, randn, tensor
from samples.shapes import sample
from torch import Tensor, nn
from torch.nn import functional as F

aten = torch.ops.aten
FRAMES, SOUND, IMAGE, WAVE = randn(2, 7, 6), randn(2, 3, 24), randn(2, 1, 8, 10), randn(2, 400)


def recurrent(kind: Any, **options: Any) -> Any:
    return lambda: kind(8, 5, **options)


def through(m: Any, x: Tensor) -> Tensor:
    """Linear → recurrent layer → Linear, whatever the layer's layout."""
    return m.b(m.r(m.a(x).tanh())[0])


def final(m: Any, x: Tensor) -> Tensor:
    """The last state is read too."""
    y, state = m.r(m.a(x).tanh())
    state = state[0] if isinstance(state, tuple) else state
    return m.b(y).mean(1) + m.c(state[-1])


def zero_state(m: Any, x: Tensor) -> Tensor:
    state = torch.zeros(1, x.shape[0], 5)
    return m.b(m.r(m.a(x), state)[0])


def learnt_state(m: Any, x: Tensor) -> Tensor:
    return m.b(m.r(m.a(x), m.h.expand(1, x.shape[0], 5).contiguous())[0])


def encoded_state(m: Any, x: Tensor) -> Tensor:
    """A decoder that starts from what a layer computes, and one that starts from another's last state."""
    y, state = m.r(m.a(x), (m.h(x[:, 0]).unsqueeze(0), m.c(x[:, 0]).unsqueeze(0)))
    return m.b(m.s(m.a(x), state)[0] + y)


def streamed(m: Any, x: Tensor, state: Tensor) -> Any:
    """The state comes in and goes out."""
    y, state = m.r(m.a(x), state)
    return m.b(y), state


def convolved(m: Any, x: Tensor) -> Tensor:
    """CRNN: [B, 1, F, T] → conv → [B, T, C·F] → GRU."""
    y = m.a(x).relu().permute(0, 3, 1, 2).flatten(2)
    return m.b(m.r(y)[0])


def dual_path(m: Any, x: Tensor) -> Tensor:
    """A recurrent layer over bands and one over time, with a residual."""
    y = m.a(x).permute(0, 2, 3, 1)
    batch, bands, time, _ = y.shape
    inner = m.r(y.transpose(1, 2).reshape(batch * time, bands, 8))[0]
    y = y + m.p(inner).view(batch, time, bands, 8).transpose(1, 2)
    outer = m.s(y.reshape(batch * bands, time, 8))[0]
    return m.b(y + m.q(outer).view(batch, bands, time, 8))


def mel(m: Any, x: Tensor) -> Tensor:
    """A log-mel front end, then a convolution and a linear layer."""
    power = torch.view_as_real(torch.stft(x, 64, 32, window=torch.hann_window(64), return_complex=True)).square().sum(-1)
    return m.b(m.a((m.filters.T @ power + 1e-6).log()).relu().mT)


def centred(x: Tensor) -> Tensor:
    """The overload that pads by itself."""
    return aten.stft.center(x, 64, 32, 64, torch.hann_window(64), True, "constant", False, True, True).abs()


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
    "inp": linear(6, 12), "n1": lambda: nn.LayerNorm(12), "f1": linear(12, 20), "f2": linear(20, 12), "n2": lambda: nn.LayerNorm(12),
    "att": lambda: nn.MultiheadAttention(12, 3, batch_first=True), "n3": lambda: nn.LayerNorm(12), "p1": conv(12, 24, 1),
    "dw": conv(12, 12, groups=12, padding=1), "bn": lambda: nn.BatchNorm1d(12), "p2": conv(12, 12, 1), "n4": lambda: nn.LayerNorm(12),
    "out": linear(12, 2),
}  # fmt: skip


def arithmetic(m: Any, x: Tensor) -> Tensor:
    """Sizes as numbers: every operator on them."""
    batch, time, _ = x.shape
    y = m.a(x).view(batch, -1, 12)
    keep = min(max(time // 2 - 1, 1), time + 1)
    y = y[:, : keep + time % 2]
    scale = (time * 2 - 3) / 4 + math.ceil(time / 2) + math.floor(time / 3) + math.trunc(time / 5) + time**2 - (-time)
    return m.b(y) * scale / x.numel()


def layer(name: str, kind: Any, targets: Any, width: int, groups: int, forward: Any = through, last: int = 0, **options: Any) -> Sample:
    layers = {"a": linear(6, 8), "r": recurrent(kind, **options), "b": linear(width, 2), **({"c": linear(last, 2)} if last else {})}
    return sample(name, forward, targets, groups, FRAMES, layers)


NUMBERS = (
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg, operator.pow,
    math.ceil, math.floor, math.trunc, torch.sym_max, torch.sym_min, torch.sym_float,
)  # fmt: skip
GRU, LSTM = aten.gru.input, aten.lstm.input
FIRST = {"batch_first": True}
PAIR = {"a": linear(6, 8), "b": linear(5, 2)}
SAMPLES = [
    layer("gru", nn.GRU, GRU, 5, 2, **FIRST),
    layer("gru_time_first", nn.GRU, GRU, 5, 2),
    layer("gru_no_bias", nn.GRU, GRU, 5, 2, bias=False),
    layer("gru_two_layers", nn.GRU, GRU, 5, 3, num_layers=2, dropout=0.1, **FIRST),
    layer("gru_both_ways", nn.GRU, GRU, 10, 3, bidirectional=True, **FIRST),
    layer("gru_two_layers_both_ways", nn.GRU, GRU, 10, 5, bidirectional=True, num_layers=2),
    layer("gru_final", nn.GRU, GRU, 5, 2, final, 5, **FIRST),
    layer("gru_final_two_layers", nn.GRU, GRU, 5, 2, final, 5, num_layers=2, **FIRST),
    layer("lstm", nn.LSTM, LSTM, 5, 2, **FIRST),
    layer("lstm_two_layers_both_ways", nn.LSTM, LSTM, 10, 5, bidirectional=True, num_layers=2, **FIRST),
    layer("lstm_time_first", nn.LSTM, LSTM, 5, 2, num_layers=1, bias=False),
    layer("lstm_final", nn.LSTM, LSTM, 5, 2, final, 5, **FIRST),
    layer("lstm_projected", nn.LSTM, LSTM, 3, 1, proj_size=3, **FIRST),
    layer("lstm_projected_two_layers", nn.LSTM, LSTM, 6, 1, proj_size=3, num_layers=2, bidirectional=True, **FIRST),
    layer("rnn_tanh", nn.RNN, aten.rnn_tanh.input, 5, 2, **FIRST),
    layer("rnn_relu", nn.RNN, aten.rnn_relu.input, 10, 5, nonlinearity="relu", num_layers=2, bidirectional=True),
    sample("gru_zero_state", zero_state, GRU, 2, FRAMES, PAIR | {"r": recurrent(nn.GRU, **FIRST)}),
    sample("gru_learnt_state", learnt_state, GRU, 2, FRAMES, PAIR | {"r": recurrent(nn.GRU, **FIRST), "h": tensor(1, 1, 5)}),
    sample("lstm_encoded_state", encoded_state, LSTM, 2, FRAMES, PAIR | {"r": recurrent(nn.LSTM, **FIRST), "s": recurrent(nn.LSTM, **FIRST), "h": linear(6, 5), "c": linear(6, 5)}),
    sample("gru_streamed", streamed, GRU, 1, lambda: (torch.randn(2, 7, 6), torch.randn(1, 2, 5)), PAIR | {"r": recurrent(nn.GRU, **FIRST)}, frozen=("model",)),
    sample("convolved", convolved, GRU, 2, IMAGE, {"a": conv2(1, 4), "r": lambda: nn.GRU(24, 6, batch_first=True), "b": linear(6, 2)}),
    sample(
        "dual_path", dual_path, GRU, 4, IMAGE,
        {"a": conv2(1, 8), "r": lambda: nn.GRU(8, 5, batch_first=True, bidirectional=True), "p": linear(10, 8), "s": lambda: nn.GRU(8, 6, batch_first=True), "q": linear(6, 8), "b": linear(8, 2)},
    ),
    sample("mel", mel, (aten.stft.default, aten.view_as_real.default), 1, WAVE, {"filters": tensor(33, 10), "a": conv(10, 8), "b": linear(8, 2)}),
    sample("stft_centred", lambda m, x: m.b(m.a(centred(x)).relu()), aten.stft.center, 1, WAVE, {"a": conv(33, 8), "b": conv(8, 2)}),
    sample("wavenet", wavenet, aten.split_with_sizes.default, 4, SOUND, {"inp": conv(3, 8, 1), "g1": conv(8, 20, padding=1), "m1": conv(10, 14, 1), "g2": conv(8, 16, padding=2, dilation=2), "m2": conv(8, 14, 1), "out": conv(6, 2, 1)}),
    sample("tasnet", tasnet, aten.conv_transpose1d.default, 1, WAVE, {"enc": conv(1, 10, 8, stride=4), "mask": conv(10, 20, 1), "dec": lambda: nn.ConvTranspose1d(10, 1, 8, stride=4)}),
    sample("conformer", conformer, (aten.glu.default, aten.scaled_dot_product_attention.default), 5, FRAMES, CONFORMER),
    sample("prelu", lambda m, x: m.b(m.n(m.p(m.a(x)))), aten.prelu.default, 1, SOUND, {"a": conv(3, 8), "p": lambda: nn.PReLU(8), "n": nn.PReLU, "b": conv(8, 2)}),
    sample("glu", lambda m, x: m.b(F.glu(m.a(x), 1)), aten.glu.default, 1, SOUND, {"a": conv(3, 16), "b": conv(8, 2)}),
    sample("embedding", lambda m, x: m.b(m.a(x).tanh()), aten.embedding.default, 1, lambda: (torch.randint(0, 9, (2, 7)),), {"a": lambda: nn.Embedding(9, 8), "b": linear(8, 2)}, frozen=("addressed by number",)),
    sample("film", lambda m, x, s: m.b(m.a(x) * m.g(s).unsqueeze(1) + m.h(s).unsqueeze(1)), (), 1, lambda: (torch.randn(2, 7, 6), torch.randn(2, 4)), {"a": linear(6, 8), "g": linear(4, 8), "h": linear(4, 8), "b": linear(8, 2)}),
    sample("residual", lambda m, x: m.b(m.a(x) + m.d(m.c(m.a(x)).relu())), (), 2, SOUND, {"a": conv(3, 8, 1), "c": conv(8, 10, padding=1), "d": conv(10, 8, 1), "b": conv(8, 2)}),
    sample("weight_norm", lambda m, x: m.b(m.a(x).relu()), (), 1, SOUND, {"a": lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 8, 3)), "b": conv(8, 2)}),
    sample("arithmetic", arithmetic, (*NUMBERS, aten.sym_size.int, aten.sym_numel.default), 1, FRAMES, {"a": linear(6, 12), "b": linear(12, 2)}),
    sample("dropout", lambda m, x: m.b(m.d(m.a(x))), aten.dropout.default, 1, FRAMES, {"a": linear(6, 12), "d": lambda: nn.Dropout(0.2), "b": linear(12, 2)}),
]  # fmt: skip
