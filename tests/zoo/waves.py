"""Rewrites of published shapes: waveform networks, and models that run frame by frame."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import entry, noise

SOURCE = "rewrite"
COMPLEX = noise(2, 2, 20, 33, scale=1.0)


@entry("demucs", SOURCE, noise(2, 1, 1024), 0.064)
def demucs() -> nn.Module:
    """Waveform U-Net: strided convolutions with GLU, an LSTM, transposed convolutions, added skips."""

    class Demucs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [1, 16, 32, 48]
            self.down, self.up = nn.ModuleList(), nn.ModuleList()
            for a, b in pairwise(widths):
                self.down.append(nn.Sequential(nn.Conv1d(a, b, 8, 4, 2), nn.ReLU(), nn.Conv1d(b, 2 * b, 1), nn.GLU(1)))
                last = [nn.ReLU()] if a > 1 else []
                self.up.insert(
                    0, nn.Sequential(nn.Conv1d(b, 2 * b, 1), nn.GLU(1), nn.ConvTranspose1d(b, a, 8, 4, 2), *last)
                )
            self.rnn, self.mix = nn.LSTM(48, 48, 2, bidirectional=True), nn.Linear(96, 48)

        def forward(self, x: Tensor) -> Tensor:
            size = x.std(2, keepdim=True) + 1e-3
            x, skips = x / size, []
            for layer in self.down:
                x = layer(x)
                skips.append(x)
            x = self.mix(self.rnn(x.permute(2, 0, 1))[0]).permute(1, 2, 0)
            for layer in self.up:
                x = layer(x + skips.pop())
            return x * size

    return Demucs()


@entry("wave_u_net", SOURCE, noise(2, 1, 512), 0.032)
def wave_u_net() -> nn.Module:
    """Decimation by slices, linear upsampling, skips by concatenation."""

    class WaveUNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [1, 16, 24, 32]
            self.down = nn.ModuleList(nn.Conv1d(a, b, 15, padding=7) for a, b in pairwise(widths))
            self.middle = nn.Conv1d(32, 48, 15, padding=7)
            self.up = nn.ModuleList(
                [
                    nn.Conv1d(48 + 32, 32, 5, padding=2),
                    nn.Conv1d(32 + 24, 24, 5, padding=2),
                    nn.Conv1d(24 + 16, 16, 5, padding=2),
                ]
            )
            self.out = nn.Conv1d(17, 1, 1)

        def forward(self, wave: Tensor) -> Tensor:
            x, skips = wave, []
            for conv in self.down:
                x = F.leaky_relu(conv(x), 0.1)
                skips.append(x)
                x = x[:, :, ::2]
            x = F.leaky_relu(self.middle(x), 0.1)
            for conv in self.up:
                x = F.interpolate(x, scale_factor=2, mode="linear", align_corners=True)
                x = F.leaky_relu(conv(torch.cat([x, skips.pop()], 1)), 0.1)
            return torch.tanh(self.out(torch.cat([x, wave], 1)))

    return WaveUNet()


@entry("wavenet", SOURCE, noise(2, 1, 400), 0.025)
def wavenet() -> nn.Module:
    """Gated dilated convolutions: one convolution for both halves, skips summed from every layer."""

    class Layer(nn.Module):
        def __init__(self, width: int, dilation: int) -> None:
            super().__init__()
            self.pad, self.conv = 2 * dilation, nn.Conv1d(width, 2 * width, 3, dilation=dilation)
            self.out = nn.Conv1d(width, 2 * width, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            a, b = self.conv(F.pad(x, (self.pad, 0))).chunk(2, 1)
            residual, skip = self.out(torch.tanh(a) * torch.sigmoid(b)).split(x.shape[1], 1)
            return (x + residual) * 0.7071, skip

    class WaveNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.layers = nn.Conv1d(1, 32, 1), nn.ModuleList(Layer(32, 2**i) for i in range(4))
            self.leave = nn.Sequential(nn.ReLU(), nn.Conv1d(32, 32, 1), nn.ReLU(), nn.Conv1d(32, 16, 1))

        def forward(self, x: Tensor) -> Tensor:
            x, total = self.enter(x), 0.0
            for layer in self.layers:
                x, skip = layer(x)
                total = total + skip
            return self.leave(total)

    return WaveNet()


@entry("sub_pixel", SOURCE, COMPLEX, 0.2)
def sub_pixel() -> nn.Module:
    """Dense blocks with instance norm, a decoder that widens frequency by sub-pixel views."""

    class Dense(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv2d(width * (i + 1), width, (2, 3), padding=(0, 1), dilation=(2**i, 1)) for i in range(3)
            )
            self.norms = nn.ModuleList(nn.InstanceNorm2d(width, affine=True) for _ in range(3))
            self.acts = nn.ModuleList(nn.PReLU(width) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            skip = x
            for i, (conv, norm, act) in enumerate(zip(self.convs, self.norms, self.acts, strict=True)):
                x = act(norm(conv(F.pad(skip, (0, 0, 2**i, 0)))))
                skip = torch.cat([x, skip], 1)
            return x

    class SubPixel(nn.Module):
        def __init__(self, inputs: int, outputs: int, factor: int) -> None:
            super().__init__()
            self.conv, self.factor = nn.Conv2d(inputs, outputs * factor, (1, 3), padding=(0, 1)), factor

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            batch, channels, time, bands = y.shape
            y = y.view(batch, self.factor, channels // self.factor, time, bands).permute(0, 2, 3, 4, 1)
            return y.contiguous().view(batch, channels // self.factor, time, -1)

    return nn.Sequential(
        nn.Conv2d(2, 24, 1), Dense(24), nn.Conv2d(24, 24, (1, 3), (1, 2)), Dense(24), SubPixel(24, 24, 2),
        nn.Conv2d(24, 1, (1, 2)),
    )  # fmt: skip


@entry("full_sub_net", SOURCE, noise(2, 1, 20, 33, scale=1.0), 0.2)
def full_sub_net() -> nn.Module:
    """A full-band LSTM, then one LSTM shared by all bands over their neighbours (unfold)."""

    class FullSub(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.full, self.full_out = nn.LSTM(33, 64, 2, batch_first=True), nn.Linear(64, 33)
            self.sub, self.sub_out = nn.LSTM(8, 32, 2, batch_first=True), nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            batch, _, time, bands = x.shape
            x = x / (x.abs().mean((1, 2, 3), keepdim=True) + 1e-5)
            full = F.relu(self.full_out(self.full(x[:, 0])[0])).unsqueeze(1)
            near = F.pad(x[:, 0], (3, 3), "reflect").unfold(2, 7, 1)
            y = torch.cat([near, full.squeeze(1).unsqueeze(-1)], -1)
            y = y.permute(0, 2, 1, 3).reshape(batch * bands, time, 8)
            return self.sub_out(self.sub(y)[0]).reshape(batch, bands, time, 2).permute(0, 3, 2, 1)

    return FullSub()


@entry("streaming_gru", SOURCE, lambda: (*noise(2, 1, 64, scale=1.0)(), *noise(1, 2, 48)(), *noise(2, 16, 4)()), 0.01)
def streaming_gru() -> nn.Module:
    """One frame at a time: a recurrent state and a convolution's cache go in and come out."""

    class Frame(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.conv = nn.Linear(64, 16), nn.Conv1d(16, 32, 5)
            self.rnn, self.mid, self.out = nn.GRU(32, 48, batch_first=True), nn.Linear(48, 40), nn.Linear(40, 64)

        def forward(self, x: Tensor, state: Tensor, cache: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = torch.cat([cache, self.enter(x).transpose(1, 2)], 2)
            cache = y[:, :, 1:]
            y, state = self.rnn(F.relu(self.conv(y)).transpose(1, 2), state)
            return torch.sigmoid(self.out(F.relu(self.mid(y)))) * x, state, cache

    return Frame()


@entry("gru_cells", SOURCE, noise(2, 12, 40, scale=1.0), 0.12)
def gru_cells() -> nn.Module:
    """Loops over time in Python: a GRU cell, an LSTM cell, and a recurrence written by hand."""

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.lstm = nn.GRUCell(40, 32), nn.LSTMCell(32, 24)
            self.mix, self.state, self.out = nn.Linear(24, 16), nn.Linear(16, 16, bias=False), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            a, c = x.new_zeros(x.shape[0], 32), x.new_zeros(x.shape[0], 24)
            b, h, frames = torch.zeros_like(c), x.new_zeros(x.shape[0], 16), []
            for t in range(x.shape[1]):
                a = self.gru(x[:, t], a)
                b, c = self.lstm(a, (b, c))
                h = torch.tanh(self.mix(b) + self.state(h))
                frames.append(h)
            return self.out(torch.stack(frames, 1))

    return Cells()
