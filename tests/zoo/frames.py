"""Rewrites of published shapes: speaker models, time-delay networks, voice activity."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import entry, noise

SOURCE = "rewrite"


@entry("res2net", SOURCE, noise(2, 40, 64, scale=1.0), 0.64)
def res2net() -> nn.Module:
    """A cascade of parts, each added to the next one's input; squeeze-excite; attentive statistics pooling."""

    class Block(nn.Module):
        def __init__(self, channels: int, scale: int) -> None:
            super().__init__()
            self.enter, self.leave = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)
            width = channels // scale
            self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(scale - 1))
            self.scale, self.down, self.up = scale, nn.Conv1d(channels, 16, 1), nn.Conv1d(16, channels, 1)

        def forward(self, x: Tensor) -> Tensor:
            first, *rest = torch.chunk(F.relu(self.enter(x)), self.scale, 1)
            parts, last = [first], None
            for conv, part in zip(self.convs, rest, strict=True):
                last = F.relu(conv(part if last is None else part + last))
                parts.append(last)
            y = self.leave(torch.cat(parts, 1))
            return x + y * torch.sigmoid(self.up(F.relu(self.down(y.mean(2, keepdim=True)))))

    class Pool(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.attend = nn.Sequential(nn.Conv1d(3 * channels, 24, 1), nn.Tanh(), nn.Conv1d(24, channels, 1))
            self.out = nn.Linear(2 * channels, 32)

        def forward(self, x: Tensor) -> Tensor:
            mean, std = x.mean(2, keepdim=True).expand_as(x), x.std(2, keepdim=True).expand_as(x)
            w = self.attend(torch.cat([x, mean, std], 1)).softmax(2)
            mean = (x * w).sum(2)
            std = ((x * x * w).sum(2) - mean * mean).clamp(min=1e-5).sqrt()
            return self.out(torch.cat([mean, std], 1))

    return nn.Sequential(
        nn.Conv1d(40, 48, 5, padding=2), nn.ReLU(), nn.BatchNorm1d(48), Block(48, 4), Block(48, 4), Pool(48)
    )


@entry("fsmn_vad", SOURCE, noise(2, 50, 80, scale=1.0), 0.5)
def fsmn_vad() -> nn.Module:
    """Feed-forward sequential memory: a depthwise memory over past and coming frames."""

    class Memory(nn.Module):
        def __init__(self, width: int, past: int, coming: int) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Linear(width, 96), nn.Linear(96, width, bias=False)
            self.left = nn.Conv2d(width, width, (past, 1), groups=width, bias=False)
            self.right = nn.Conv2d(width, width, (coming, 1), groups=width, bias=False)
            self.past, self.coming = past, coming

        def forward(self, x: Tensor) -> Tensor:
            p = self.narrow(F.relu(self.wide(x)))
            y = p.unsqueeze(1).permute(0, 3, 2, 1)
            left = y + self.left(F.pad(y, (0, 0, self.past - 1, 0)))
            out = left + self.right(F.pad(y, (0, 0, 0, self.coming))[:, :, 1:, :])
            return out.permute(0, 3, 2, 1).squeeze(1) + x

    blocks = [Memory(48, 10, 3) for _ in range(3)]
    return nn.Sequential(
        nn.Linear(80, 64),
        nn.ReLU(),
        nn.Linear(64, 48),
        *blocks,
        nn.ReLU(),
        nn.Linear(48, 64),
        nn.Linear(64, 2),
        nn.Softmax(-1),
    )


@entry("silero_vad", SOURCE, noise(2, 4096), 0.256)
def silero_vad() -> nn.Module:
    """A Fourier basis as a convolution, a few convolutions, an LSTM."""

    class Vad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            angle = torch.outer(torch.arange(65), torch.arange(128)) * (2 * torch.pi / 128)
            self.register_buffer("basis", torch.cat([angle.cos(), -angle.sin()])[:, None] * torch.hann_window(128))
            widths = [65, 48, 32, 32, 48]
            pairs = zip(widths, widths[1:], (1, 2, 2, 1), strict=False)
            self.encoder = nn.ModuleList(nn.Conv1d(a, b, 3, stride, 1) for a, b, stride in pairs)
            self.rnn, self.out = nn.LSTM(48, 48, batch_first=True), nn.Conv1d(48, 1, 1)

        def forward(self, wave: Tensor) -> Tensor:
            y = F.conv1d(F.pad(wave[:, None], (0, 64), "reflect"), self.basis, stride=64)
            x = torch.sqrt(y[:, :65].square() + y[:, 65:].square() + 1e-9)
            for layer in self.encoder:
                x = F.relu(layer(x))
            hidden, _ = self.rnn(x.transpose(1, 2))
            return torch.sigmoid(self.out(F.relu(hidden.transpose(1, 2)))).mean(2)

    return Vad()


@entry("tdnn_f", SOURCE, noise(2, 60, 40, scale=1.0), 0.6)
def tdnn_f() -> nn.Module:
    """Factorised time-delay layers over spliced frames, with scaled skips."""

    class Layer(nn.Module):
        def __init__(self, width: int, bottleneck: int) -> None:
            super().__init__()
            self.down, self.up = nn.Linear(2 * width, bottleneck, bias=False), nn.Linear(2 * bottleneck, width)
            self.norm = nn.BatchNorm1d(width)

        def forward(self, x: Tensor) -> Tensor:
            y = self.down(torch.cat([x, F.pad(x, (0, 0, 1, 0))[:, :-1]], 2))
            y = F.relu(self.up(torch.cat([y, F.pad(y, (0, 0, 0, 1))[:, 1:]], 2)))
            return self.norm(y.transpose(1, 2)).transpose(1, 2) + 0.66 * x

    return nn.Sequential(
        nn.Linear(40, 64), Layer(64, 24), Layer(64, 24), Layer(64, 24), nn.Linear(64, 20), nn.LogSoftmax(-1)
    )


@entry("cam_plus", SOURCE, noise(2, 40, 100, scale=1.0), 1.0)
def cam_plus() -> nn.Module:
    """Densely connected TDNN with context-aware masking over segments."""

    class Dense(nn.Module):
        def __init__(self, inputs: int, growth: int) -> None:
            super().__init__()
            self.norm, self.enter = nn.BatchNorm1d(inputs), nn.Conv1d(inputs, 48, 1, bias=False)
            self.local, self.norm2 = nn.Conv1d(48, growth, 3, padding=1), nn.BatchNorm1d(48)
            self.down, self.up = nn.Conv1d(48, 24, 1), nn.Conv1d(24, growth, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.norm2(self.enter(F.relu(self.norm(x)))))
            parts = F.avg_pool1d(y, 20, 20, ceil_mode=True)
            spread = parts.unsqueeze(-1).expand(*parts.shape, 20).reshape(*parts.shape[:-1], -1)[..., : y.shape[-1]]
            mask = torch.sigmoid(self.up(F.relu(self.down(y.mean(-1, keepdim=True) + spread))))
            return torch.cat([x, self.local(y) * mask], 1)

    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.mean(-1), x.std(-1)], -1)

    layers = [Dense(48 + 16 * i, 16) for i in range(4)]
    return nn.Sequential(
        nn.Conv1d(40, 48, 5, 2, 2),
        *layers,
        nn.BatchNorm1d(112),
        nn.ReLU(),
        nn.Conv1d(112, 64, 1),
        Pool(),
        nn.Linear(128, 32),
    )
