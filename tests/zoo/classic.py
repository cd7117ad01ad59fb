"""Rewrites of published shapes: keyword spotting and anti-spoofing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import entry, noise

SOURCE = "rewrite"
MELS = noise(2, 1, 40, 64, scale=1.0)


class Basic(nn.Module):
    """Residual block of two 3 × 3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.short = short if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


@entry("resnet34_spoof", SOURCE, MELS, 0.64)
def resnet34_spoof() -> nn.Module:
    """ResNet34 over a spectrogram with statistics pooling (anti-spoofing)."""

    class ResNet34(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
            layers, width = [], 16
            for outputs, count in ((16, 3), (24, 4), (32, 6), (48, 3)):
                for index in range(count):
                    layers.append(Basic(width, outputs, 2 if index == 0 and outputs > 16 else 1))
                    width = outputs
            self.layers, self.out = nn.Sequential(*layers), nn.Linear(2 * 48 * 5, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layers(self.stem(x)).flatten(1, 2)
            return self.out(torch.cat([y.mean(2), y.std(2)], 1))

    return ResNet34()


@entry("lcnn", SOURCE, MELS, 0.64)
def lcnn() -> nn.Module:
    """Light CNN: max-feature-map halves the channels after every convolution."""

    class MaxFeature(nn.Module):
        def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(inputs, 2 * outputs, kernel, padding=kernel // 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.conv(x).chunk(2, 1)
            return torch.max(a, b)

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.out = nn.Linear(32 * 5 * 8, 64), nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.wide(x.flatten(1)).view(-1, 2, 32)
            return self.out(y.max(1)[0])

    return nn.Sequential(
        MaxFeature(1, 16, 5), nn.MaxPool2d(2), MaxFeature(16, 16, 1), nn.BatchNorm2d(16), MaxFeature(16, 24, 3),
        nn.MaxPool2d(2), nn.BatchNorm2d(24), MaxFeature(24, 32, 3), nn.MaxPool2d(2), nn.Dropout(0.5), Head(),
    )  # fmt: skip


@entry("bc_resnet", SOURCE, MELS, 0.64)
def bc_resnet() -> nn.Module:
    """Broadcasted residual learning: sub-spectral norm, a 1-D branch over time broadcast over frequency."""

    class SubSpectral(nn.Module):
        def __init__(self, channels: int, parts: int) -> None:
            super().__init__()
            self.parts, self.norm = parts, nn.BatchNorm2d(channels * parts)

        def forward(self, x: Tensor) -> Tensor:
            batch, channels, bands, time = x.shape
            y = self.norm(x.reshape(batch, channels * self.parts, bands // self.parts, time))
            return y.reshape(batch, channels, bands, time)

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
            super().__init__()
            self.point = None
            if inputs != outputs:
                self.point = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
                )
            depth = nn.Conv2d(outputs, outputs, (3, 1), (stride, 1), (1, 0), groups=outputs, bias=False)
            self.bands = nn.Sequential(depth, SubSpectral(outputs, 5))
            self.time = nn.Conv2d(
                outputs, outputs, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=outputs
            )
            self.norm, self.last = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.bands(x if self.point is None else self.point(x))
            z = self.last(F.silu(self.norm(self.time(y.mean(2, keepdim=True)))))
            return F.relu(x + y + z if self.point is None else y + z)

    return nn.Sequential(
        nn.Conv2d(1, 16, 5, (2, 1), 2), nn.BatchNorm2d(16), nn.ReLU(), Block(16, 8, 1, 1), Block(8, 8, 1, 1),
        Block(8, 12, 2, 2), Block(12, 12, 1, 2), Block(12, 20, 2, 4), Block(20, 20, 1, 4),
        nn.Conv2d(20, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 12, 1), nn.Flatten(),
    )  # fmt: skip


@entry("ds_cnn", SOURCE, MELS, 0.64)
def ds_cnn() -> nn.Module:
    """Depthwise separable convolutions for keywords."""

    def block(channels: int) -> nn.Module:
        depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        return nn.Sequential(
            depth,
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    stem = nn.Sequential(nn.Conv2d(1, 32, (10, 4), 2, (5, 1)), nn.BatchNorm2d(32), nn.ReLU())
    return nn.Sequential(stem, *(block(32) for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 12))


@entry("tc_resnet", SOURCE, noise(2, 40, 64, scale=1.0), 0.64)
def tc_resnet() -> nn.Module:
    """Temporal convolutions: bands are channels."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv1d(inputs, outputs, 9, 2, 4, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(),
                nn.Conv1d(outputs, outputs, 9, 1, 4, bias=False), nn.BatchNorm1d(outputs),
            )  # fmt: skip
            self.short = nn.Sequential(nn.Conv1d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.body(x) + self.short(x))

    blocks = [Block(16, 24), Block(24, 32), Block(32, 48)]
    return nn.Sequential(
        nn.Conv1d(40, 16, 3, bias=False), *blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 12)
    )


@entry("matchboxnet", SOURCE, noise(2, 64, 80, scale=1.0), 0.8)
def matchboxnet() -> nn.Module:
    """Time-channel separable convolutions with residual sub-blocks."""

    def separable(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
        pad = dilation * (kernel - 1) // 2
        depth = nn.Conv1d(inputs, inputs, kernel, stride, pad, dilation, groups=inputs, bias=False)
        return [depth, nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs)]

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
            super().__init__()
            first = separable(inputs, outputs, kernel)
            self.body = nn.Sequential(*first, nn.ReLU(), nn.Dropout(0.1), *separable(outputs, outputs, kernel))
            self.short = nn.Sequential(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.body(x) + self.short(x))

    return nn.Sequential(
        *separable(64, 48, 11, 2), nn.ReLU(), Block(48, 32, 13), Block(32, 32, 15), Block(32, 32, 17),
        *separable(32, 48, 29, 1, 2), nn.ReLU(), nn.Conv1d(48, 64, 1), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Conv1d(64, 12, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
    )  # fmt: skip
