"""Models to export: recurrent layers of every kind, convolutions, attention, a spectrogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


class Recurrent(nn.Module):
    """A recurrent layer that returns its final states too."""

    def __init__(self, kind: str, hidden: int = 5, **options: Any) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(6, hidden, **options)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


class Started(Recurrent):
    """A recurrent layer whose initial state is an input."""

    def forward(self, x: Tensor, state: Tensor) -> Any:
        return self.layer(x, state)


class StartedLSTM(Recurrent):
    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
        return self.layer(x, (h, c))


class Apply(nn.Module):
    """A function of itself and one input, with the layers that it names."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def spectrogram(m: Any, x: Tensor) -> Tensor:
    """A transform with a window shorter than its frame, then a layer over frequency."""
    return m.head(torch.stft(x, 64, 16, 48, m.window, return_complex=True).abs().transpose(1, 2))


def attend(m: Any, x: Tensor) -> Tensor:
    """Attention without heads, twice: causal, then with a mask for each item."""
    first = nn.functional.scaled_dot_product_attention(m.query(x), m.key(x), x, is_causal=True)
    return nn.functional.scaled_dot_product_attention(first, x, x, attn_mask=first @ first.transpose(1, 2))


Case = tuple[nn.Module, tuple[Tensor, ...], tuple[tuple[int, ...], ...]]
"""A model, its example, and other shapes that neither capture nor export has seen."""

FRAMES, LONGER = (noise(2, 9, 6),), ((3, 14, 6),)
CHANNELS, LONG = (noise(2, 3, 60),), ((3, 3, 91),)

CASES: dict[str, Callable[[], Case]] = {
    "gru": lambda: (Recurrent("GRU", batch_first=True), FRAMES, LONGER),
    "gru, time first": lambda: (Recurrent("GRU"), FRAMES, LONGER),
    "gru, two layers, two directions, no bias": lambda: (
        Recurrent("GRU", batch_first=True, num_layers=2, bidirectional=True, bias=False),
        FRAMES,
        LONGER,
    ),
    "gru with a state": lambda: (
        Started("GRU", batch_first=True, bidirectional=True),
        (*FRAMES, noise(2, 2, 5)),
        (*LONGER, (2, 3, 5)),
    ),
    "lstm, two directions": lambda: (Recurrent("LSTM", batch_first=True, bidirectional=True), FRAMES, LONGER),
    "lstm of width 1, no bias": lambda: (Recurrent("LSTM", 1, batch_first=True, bias=False), FRAMES, LONGER),
    "lstm with states": lambda: (
        StartedLSTM("LSTM", num_layers=2),
        (*FRAMES, noise(2, 9, 5), noise(2, 9, 5) / 2),
        ((14, 3, 6), (2, 3, 5), (2, 3, 5)),
    ),
    "rnn, tanh": lambda: (Recurrent("RNN", batch_first=True, num_layers=2), FRAMES, LONGER),
    "rnn, relu, two directions": lambda: (
        Recurrent("RNN", batch_first=True, nonlinearity="relu", bidirectional=True),
        FRAMES,
        LONGER,
    ),
    "convolutions and back": lambda: (
        nn.Sequential(
            nn.Conv1d(3, 8, 5, 2), nn.GLU(1), nn.GroupNorm(2, 4), nn.ConvTranspose1d(4, 6, 4, 2, 1, 1, groups=2)
        ),
        CHANNELS,
        LONG,
    ),
    "depthwise": lambda: (
        nn.Sequential(nn.Conv1d(3, 8, 1), nn.PReLU(8), nn.Conv1d(8, 8, 3, padding="same", dilation=2, groups=8)),
        CHANNELS,
        LONG,
    ),
    "multi-head attention": lambda: (
        Apply(lambda m, x: m.layer(x, x, x)[0], layer=nn.MultiheadAttention(6, 2, batch_first=True)),
        FRAMES,
        LONGER,
    ),
    "attention without heads": lambda: (Apply(attend, query=nn.Linear(6, 4), key=nn.Linear(6, 4)), FRAMES, LONGER),
    "spectrogram": lambda: (
        Apply(spectrogram, head=nn.Linear(33, 4), window=nn.Buffer(torch.hann_window(48))),
        (noise(2, 400),),
        ((3, 777),),
    ),
}
