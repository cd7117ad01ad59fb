"""Rewrites of published shapes: enhancement and separation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import entry, noise

SOURCE = "rewrite"
SPECTRUM = noise(2, 1, 20, 33, scale=1.0)
COMPLEX = noise(2, 2, 20, 33, scale=1.0)


@entry("crn", SOURCE, SPECTRUM, 0.2)
def crn() -> nn.Module:
    """Convolutions, an LSTM over channels × bands, deconvolutions with skips by concatenation."""

    class Crn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [1, 16, 24, 32]
            self.down = nn.ModuleList(nn.Conv2d(a, b, (1, 3), (1, 2)) for a, b in pairwise(widths))
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
            self.rnn, self.back = nn.LSTM(32 * 3, 64, 2, batch_first=True), nn.Linear(64, 32 * 3)
            self.up = nn.ModuleList(
                nn.ConvTranspose2d(2 * b, a, (1, 3), (1, 2)) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
            )

        def forward(self, x: Tensor) -> Tensor:
            skips = []
            for conv, norm in zip(self.down, self.norms, strict=True):
                x = F.elu(norm(conv(x)))
                skips.append(x)
            batch, channels, time, bands = x.shape
            y, _ = self.rnn(x.permute(0, 2, 1, 3).reshape(batch, time, channels * bands))
            y = self.back(y).reshape(batch, time, channels, bands).permute(0, 2, 1, 3)
            for deconv in self.up:
                skip = skips.pop()
                y = deconv(torch.cat([y, skip], 1))
                y = F.elu(F.pad(y, (0, skips[-1].shape[-1] - y.shape[-1])) if skips else y)
            return F.softplus(y)

    return Crn()


@entry("gru_unet", SOURCE, SPECTRUM, 0.2)
def gru_unet() -> nn.Module:
    """Skips by addition, a grouped GRU in the middle."""

    class Unet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 16, (2, 3), (1, 2), (1, 1)), nn.Conv2d(16, 32, (2, 3), (1, 2), (1, 1))
            self.rnns = nn.ModuleList(nn.GRU(32 * 9 // 2, 48, batch_first=True) for _ in range(2))
            self.mix = nn.Linear(96, 32 * 9)
            self.c, self.d = (
                nn.ConvTranspose2d(32, 16, (1, 3), (1, 2), (0, 1)),
                nn.ConvTranspose2d(16, 1, (1, 3), (1, 2), (0, 1)),
            )
            self.norm = nn.InstanceNorm2d(16, affine=True)

        def forward(self, x: Tensor) -> Tensor:
            time = x.shape[2]
            a = F.relu(self.norm(self.a(x)[:, :, :time]))
            b = F.relu(self.b(a)[:, :, :time])
            y = b.permute(0, 2, 1, 3).flatten(2)
            parts = [rnn(part)[0] for rnn, part in zip(self.rnns, y.chunk(2, -1), strict=True)]
            y = self.mix(torch.cat(parts, -1)).unflatten(2, (32, 9)).transpose(1, 2) + b
            return torch.sigmoid(self.d(F.relu(self.c(y)) + a)) * x

    return Unet()


@entry("gtcrn", SOURCE, COMPLEX, 0.2)
def gtcrn() -> nn.Module:
    """Grouped temporal convolutions with channel shuffle, temporal attention, dual-path grouped GRUs."""

    class Attention(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.rnn, self.out = nn.GRU(channels, 2 * channels, batch_first=True), nn.Linear(2 * channels, channels)

        def forward(self, x: Tensor) -> Tensor:
            energy = x.square().mean(-1)
            return x * torch.sigmoid(self.out(self.rnn(energy.transpose(1, 2))[0])).transpose(1, 2)[..., None]

    class Grouped(nn.Module):
        """Half of the channels are convolved; the halves are interleaved afterwards."""

        def __init__(self, channels: int, dilation: int) -> None:
            super().__init__()
            half, self.pad = channels // 2, 2 * dilation
            self.enter, self.leave = nn.Conv2d(half, 24, 1), nn.Conv2d(24, half, 1)
            self.depth = nn.Conv2d(24, 24, 3, padding=(0, 1), dilation=(dilation, 1), groups=24)
            self.act, self.attend = nn.PReLU(24), Attention(half)

        def forward(self, x: Tensor) -> Tensor:
            a, b = x.chunk(2, 1)
            y = self.act(self.depth(F.pad(self.act(self.enter(a)), (0, 0, self.pad, 0))))
            y = self.attend(self.leave(y))
            mixed = torch.stack([y, b], 1).transpose(1, 2).contiguous()
            return mixed.flatten(1, 2)

    class DualPath(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.intra = nn.ModuleList(
                nn.GRU(channels // 2, channels // 4, bidirectional=True, batch_first=True) for _ in range(2)
            )
            self.inter = nn.ModuleList(nn.GRU(channels // 2, channels // 2, batch_first=True) for _ in range(2))
            self.a, self.b = nn.Linear(channels, channels), nn.Linear(channels, channels)
            self.norm = nn.LayerNorm((17, channels))

        def grouped(self, rnns: nn.ModuleList, x: Tensor) -> Tensor:
            return torch.cat([rnn(part)[0] for rnn, part in zip(rnns, x.chunk(2, -1), strict=True)], -1)

        def forward(self, x: Tensor) -> Tensor:
            batch, channels, time, bands = x.shape
            x = x.permute(0, 2, 3, 1)
            y = self.a(self.grouped(self.intra, x.reshape(batch * time, bands, channels)))
            x = x + self.norm(y.reshape(batch, time, bands, channels))
            z = x.permute(0, 2, 1, 3).reshape(batch * bands, time, channels)
            z = self.b(self.grouped(self.inter, z)).reshape(batch, bands, time, channels).permute(0, 2, 1, 3)
            return (x + self.norm(z)).permute(0, 3, 1, 2)

    class Gtcrn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Conv2d(3, 16, (1, 5), (1, 2), (0, 2))
            self.blocks = nn.Sequential(Grouped(16, 1), Grouped(16, 2), DualPath(16))
            self.leave = nn.ConvTranspose2d(16, 2, (1, 5), (1, 2), (0, 2))

        def forward(self, x: Tensor) -> Tensor:
            size = torch.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2 + 1e-12)
            y = self.enter(torch.stack([size, x[:, 0], x[:, 1]], 1))
            mask = torch.tanh(self.leave(self.blocks(F.relu(y)) + y))
            real = x[:, 0] * mask[:, 0] - x[:, 1] * mask[:, 1]
            imaginary = x[:, 1] * mask[:, 0] + x[:, 0] * mask[:, 1]
            return torch.stack([real, imaginary], 1)

    return Gtcrn()


@entry("deep_filter_net", SOURCE, noise(2, 2, 20, 32, scale=1.0), 0.2)
def deep_filter_net() -> nn.Module:
    """A gain for each band, and a filter of five frames for the low bands; einsum for grouped linear layers."""

    class GroupedLinear(nn.Module):
        def __init__(self, inputs: int, outputs: int, groups: int) -> None:
            super().__init__()
            self.weight, self.groups = (
                nn.Parameter(torch.randn(groups, inputs // groups, outputs // groups) * 0.1),
                groups,
            )

        def forward(self, x: Tensor) -> Tensor:
            y = x.unflatten(-1, (self.groups, x.shape[-1] // self.groups))
            return torch.einsum("btgi,gih->btgh", y, self.weight).flatten(2, 3)

    class Filter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.erb = nn.Parameter(torch.rand(32, 16) / 32, requires_grad=False)
            self.conv0 = nn.Conv2d(1, 16, 3, padding=(0, 1), bias=False)
            self.conv1 = nn.Sequential(
                nn.Conv2d(16, 16, (1, 3), (1, 2), (0, 1), groups=16), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)
            )
            self.spec = nn.Sequential(
                nn.Conv2d(2, 16, (1, 3), (1, 2), (0, 1), groups=2), nn.Conv2d(16, 16, 1), nn.ReLU()
            )
            self.low, self.join = GroupedLinear(16 * 8, 16 * 8, 4), GroupedLinear(16 * 8, 64, 4)
            self.rnn, self.wide = nn.GRU(64, 64, batch_first=True), GroupedLinear(64, 16 * 8, 4)
            self.up, self.last = (
                nn.ConvTranspose2d(16, 16, (1, 3), (1, 2), (0, 1), (0, 1), groups=16),
                nn.Conv2d(16, 1, (1, 3), padding=(0, 1)),
            )
            self.df_rnn, self.df_out = nn.GRU(64, 48, 2, batch_first=True), nn.Linear(48, 16 * 10)
            self.skip = nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            power = (x.square().sum(1) @ self.erb + 1e-6).log()
            e0 = F.relu(self.conv0(F.pad(power[:, None], (0, 0, 2, 0))))
            e1 = F.relu(self.conv1(e0))
            c = self.spec(x[..., :16]).permute(0, 2, 3, 1).flatten(2)
            hidden, _ = self.rnn(F.relu(self.join(e1.permute(0, 2, 3, 1).flatten(2) + self.low(c))))
            d = F.relu(self.wide(hidden)).unflatten(2, (8, 16)).permute(0, 3, 1, 2)
            gain = torch.sigmoid(self.last(F.relu(self.up(d + self.skip(e1))) + e0))
            y = x * (gain @ self.erb.t())
            taps = torch.tanh(self.df_out(self.df_rnn(hidden)[0])).unflatten(2, (16, 5, 2))
            frames = F.pad(y[..., :16], (0, 0, 4, 0)).unfold(2, 5, 1)
            real = (frames[:, 0] * taps[..., 0] - frames[:, 1] * taps[..., 1]).sum(-1)
            imaginary = (frames[:, 1] * taps[..., 0] + frames[:, 0] * taps[..., 1]).sum(-1)
            return torch.cat([torch.stack([real, imaginary], 1), y[..., 16:]], -1)

    return Filter()


@entry("dccrn", SOURCE, COMPLEX, 0.2)
def dccrn() -> nn.Module:
    """Complex numbers as pairs of real channels, in convolutions and in the LSTM."""

    class Complex2d(nn.Module):
        def __init__(self, inputs: int, outputs: int, up: bool = False) -> None:
            super().__init__()
            kind = nn.ConvTranspose2d if up else nn.Conv2d
            self.real, self.imaginary = (kind(inputs, outputs, (1, 3), (1, 2)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            a, b = torch.chunk(x, 2, 1)
            return torch.cat([self.real(a) - self.imaginary(b), self.real(b) + self.imaginary(a)], 1)

    class ComplexLstm(nn.Module):
        def __init__(self, inputs: int, width: int) -> None:
            super().__init__()
            self.real, self.imaginary = (nn.LSTM(inputs, width, batch_first=True) for _ in range(2))
            self.back_real, self.back_imaginary = nn.Linear(width, inputs), nn.Linear(width, inputs)

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            real = self.real(a)[0] - self.imaginary(b)[0]
            imaginary = self.imaginary(a)[0] + self.real(b)[0]
            return self.back_real(real), self.back_imaginary(imaginary)

    class Dccrn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([Complex2d(1, 8), Complex2d(8, 16), Complex2d(16, 16)])
            self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(32), nn.BatchNorm2d(32)])
            self.rnn = ComplexLstm(16 * 3, 48)
            self.up = nn.ModuleList([Complex2d(32, 16, True), Complex2d(32, 8, True), Complex2d(16, 1, True)])
            self.acts = nn.ModuleList(nn.PReLU() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            y, skips = x, []
            for conv, norm, act in zip(self.down, self.norms, self.acts, strict=True):
                y = act(norm(conv(y)))
                skips.append(y)
            batch, channels, time, bands = y.shape
            a, b = (part.permute(0, 2, 1, 3).reshape(batch, time, -1) for part in y.chunk(2, 1))
            parts = [part.view(batch, time, channels // 2, bands).permute(0, 2, 1, 3) for part in self.rnn(a, b)]
            y = torch.cat(parts, 1)
            for index, conv in enumerate(self.up):
                ours, theirs = y.chunk(2, 1), skips[-1 - index].chunk(2, 1)
                y = conv(torch.cat([torch.cat([o, t], 1) for o, t in zip(ours, theirs, strict=True)], 1))
                size = skips[-2 - index].shape[-1] if index < 2 else x.shape[-1]
                y = F.pad(y, (0, size - y.shape[-1]))
            size, phase = torch.tanh((y.square().sum(1) + 1e-8).sqrt()), torch.atan2(y[:, 1], y[:, 0] + 1e-8)
            loud, turn = (x.square().sum(1) + 1e-8).sqrt() * size, torch.atan2(x[:, 1], x[:, 0] + 1e-8) + phase
            return torch.stack([loud * turn.cos(), loud * turn.sin()], 1)

    return Dccrn()
