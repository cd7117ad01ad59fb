"""Recurrent layers: layouts, depths, directions, states, and what stands around them in speech models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from samples import Sample, conv2, linear, randn, tensor
from samples.shapes import sample

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


def layer(
    name: str, kind: Any, targets: Any, width: int, groups: int, forward: Any = through, last: int = 0, **options: Any
) -> Sample:
    layers = {
        "a": linear(6, 8),
        "r": recurrent(kind, **options),
        "b": linear(width, 2),
        **({"c": linear(last, 2)} if last else {}),
    }
    return sample(name, forward, targets, groups, FRAMES, layers)


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
    sample(
        "gru_learnt_state", learnt_state, GRU, 2, FRAMES, PAIR | {"r": recurrent(nn.GRU, **FIRST), "h": tensor(1, 1, 5)}
    ),
    sample(
        "lstm_encoded_state",
        encoded_state,
        LSTM,
        2,
        FRAMES,
        PAIR
        | {"r": recurrent(nn.LSTM, **FIRST), "s": recurrent(nn.LSTM, **FIRST), "h": linear(6, 5), "c": linear(6, 5)},
    ),
    sample(
        "gru_streamed",
        streamed,
        GRU,
        1,
        lambda: (torch.randn(2, 7, 6), torch.randn(1, 2, 5)),
        PAIR | {"r": recurrent(nn.GRU, **FIRST)},
        frozen=("model",),
    ),
    sample(
        "convolved",
        convolved,
        GRU,
        2,
        IMAGE,
        {"a": conv2(1, 4), "r": lambda: nn.GRU(24, 6, batch_first=True), "b": linear(6, 2)},
    ),
    sample(
        "dual_path",
        dual_path,
        GRU,
        4,
        IMAGE,
        {
            "a": conv2(1, 8),
            "r": lambda: nn.GRU(8, 5, batch_first=True, bidirectional=True),
            "p": linear(10, 8),
            "s": lambda: nn.GRU(8, 6, batch_first=True),
            "q": linear(6, 8),
            "b": linear(8, 2),
        },
    ),
]
