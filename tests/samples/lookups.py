"""Elements by number, assignments, recurrent cells, vectors, and channels that move into space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samples import conv, conv2, linear, randn, tensor
from samples.shapes import between, sample

aten = torch.ops.aten
FRAMES, STEP, IMAGE, VECTOR = randn(2, 7, 6), randn(2, 6), randn(2, 2, 8, 9), randn(6)
A = {"a": linear(6, 12), "b": linear(12, 2)}


def copied(m: Any, x: Tensor) -> Tensor:
    """Frames are overwritten, then channels."""
    y, z = m.a(x), m.c(x)
    y[:, 1:3] = z[:, :2] * 2
    y[..., 3:8] = z[..., :5]
    y[:, 0] = 0.5
    return m.b(y.tanh())


def one_channel(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[..., 2] = 1.0
    return m.b(y.tanh())


def unrolled(m: Any, x: Tensor) -> Tensor:
    """A loop over time in Python, from a state of zeros."""
    state = x.new_zeros(x.shape[0], 5)
    for t in range(3):
        state = m.r(m.a(x[:, t]).tanh(), state)
    return m.b(state)


def unrolled_lstm(m: Any, x: Tensor) -> Tensor:
    state = (x.new_zeros(x.shape[0], 5), x.new_zeros(x.shape[0], 5))
    for t in range(3):
        state = m.r(m.a(x[:, t]).tanh(), state)
    return m.b(state[0]) + m.c(state[1])


def cell(name: str, kind: Any, target: Any, forward: Any = unrolled, **options: Any) -> Any:
    layers = {"a": linear(6, 8), "r": lambda: kind(8, 5, **options), "b": linear(5, 2), "c": linear(5, 2)}
    return sample(name, forward, target, 2, FRAMES, layers)


def positions(y: Tensor, channels: int) -> Tensor:
    return torch.tensor([3, 0, 5]).view(1, 3, 1).expand(y.shape[0], 3, channels)


SAMPLES = [
    between("gather", lambda y: y.gather(1, positions(y, 12)), aten.gather.default),
    between(
        "gather_channels",
        lambda y: y.gather(2, torch.zeros(2, 7, 5, dtype=torch.long)),
        aten.gather.default,
        0,
        frozen=("one by one",),
    ),
    between(
        "take_along_dim",
        lambda y: torch.take_along_dim(y, y.argsort(1), 1),
        aten.take_along_dim.default,
        0,
        unknown=True,
    ),
    between("index", lambda y: y[:, torch.tensor([3, 0, 3])], aten.index.Tensor),
    between("index_channels", lambda y: y[..., torch.tensor([3, 0, 3])], aten.index.Tensor, 0, frozen=("one by one",)),
    between("index_two", lambda y: y[torch.tensor([0, 1]), torch.tensor([3, 0])], aten.index.Tensor),
    sample("copied", copied, aten.copy_.default, 2, FRAMES, A | {"c": linear(6, 12)}, train=False),
    sample("copied_channel", one_channel, (), 0, FRAMES, A, train=False, frozen=("one by one",)),
    between("copy", lambda y: aten.copy.default(y, y * 2), aten.clone.default),
    sample(
        "one_hot",
        lambda m, x: m.b(m.a(F.one_hot(x, 6).float()).tanh()),
        aten.one_hot.default,
        1,
        lambda: (torch.randint(0, 6, (2, 7)),),
        A,
    ),
    cell("gru_cell", nn.GRUCell, aten.gru_cell.default),
    cell("gru_cell_no_bias", nn.GRUCell, aten.gru_cell.default, bias=False),
    cell("lstm_cell", nn.LSTMCell, aten.lstm_cell.default, unrolled_lstm),
    cell("rnn_tanh_cell", nn.RNNCell, aten.rnn_tanh_cell.default),
    cell("rnn_relu_cell", nn.RNNCell, aten.rnn_relu_cell.default, nonlinearity="relu"),
    sample(
        "outer",
        lambda m, x: m.b(m.a(x) @ torch.outer(m.u, m.v)),
        aten.outer.default,
        2,
        STEP,
        {"a": linear(6, 9), "u": tensor(9), "v": tensor(8), "b": linear(8, 2)},
        referee=False,
    ),
    sample(
        "ger",
        lambda m, x: m.b(m.a(x) @ torch.ger(m.u, m.v)),
        aten.ger.default,
        2,
        STEP,
        {"a": linear(6, 9), "u": tensor(9), "v": tensor(8), "b": linear(8, 2)},
        referee=False,
    ),
    sample(
        "mv",
        lambda m, x: torch.mv(m.a(x), m.u),
        aten.mv.default,
        1,
        STEP,
        {"a": linear(6, 9), "u": tensor(9)},
        referee=False,
    ),
    sample(
        "dot",
        lambda m, x: torch.dot(m.a(x).tanh(), m.c(x)),
        aten.dot.default,
        1,
        VECTOR,
        {"a": linear(6, 9), "c": linear(6, 9)},
        referee=False,
    ),
    sample(
        "pixel_shuffle",
        lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)),
        aten.pixel_shuffle.default,
        1,
        IMAGE,
        {"a": conv2(2, 20), "b": conv2(5, 2)},
    ),
    sample(
        "pixel_unshuffle",
        lambda m, x: m.b(F.pixel_unshuffle(m.a(x)[..., :6, :6], 2)),
        aten.pixel_unshuffle.default,
        1,
        IMAGE,
        {"a": conv2(2, 5), "b": conv2(20, 2)},
    ),
    sample(
        "channel_shuffle",
        lambda m, x: m.b(F.channel_shuffle(m.a(x), 3).relu()),
        aten.channel_shuffle.default,
        2,
        IMAGE,
        {"a": conv2(2, 12), "b": conv2(12, 2)},
    ),
    sample(
        "shuffled_groups",
        lambda m, x: m.b(F.channel_shuffle(m.g(m.a(x)).unsqueeze(-1), 3).squeeze(-1)),
        aten.channel_shuffle.default,
        1,
        randn(2, 3, 20),
        {"a": conv(3, 12), "g": conv(12, 12, groups=3), "b": conv(12, 2)},
    ),
]
