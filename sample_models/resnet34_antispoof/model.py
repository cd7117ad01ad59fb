"""The detector: a ResNet34 of narrow stages over features of the tool's own front end, one logit per clip."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COEFFICIENTS = 60
WIDTHS = (12, 24, 40, 72)
BLOCKS = (3, 4, 6, 3)  # those of ResNet34
DROPOUT = 0.3


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution without bias: [B, inputs, T, F] -> [B, outputs, T / stride, F / stride]."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    """Basic residual block; a 1×1 shortcut where shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T, F] -> [B, outputs, T / stride, F / stride]."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class ResNet34(nn.Module):
    """Features [B, frames, COEFFICIENTS] -> logits [B], bona fide above 0."""

    mean: Tensor
    std: Tensor

    def __init__(self, widths: tuple[int, ...] = WIDTHS, coefficients: int = COEFFICIENTS) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(coefficients))
        self.register_buffer("std", torch.ones(coefficients))
        self.stem = nn.Sequential(conv3(1, widths[0], 2), nn.BatchNorm2d(widths[0]), nn.ReLU())
        stages = []
        for i, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            stages += [Block(inputs, outputs, 1 if i == 0 else 2)]
            stages += [Block(outputs, outputs, 1) for _ in range(BLOCKS[i] - 1)]
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, frames, COEFFICIENTS] -> [B]."""
        maps = self.stages(self.stem(((features - self.mean) / self.std).unsqueeze(1)))
        mean = maps.mean((2, 3))
        deviation = ((maps - mean[:, :, None, None]).square().mean((2, 3)) + 1e-5).sqrt()
        return self.head(self.dropout(torch.cat((mean, deviation), 1))).squeeze(-1)


def resnet34_antispoof() -> ResNet34:
    """Return the untrained model."""
    return ResNet34()


def load(weights: str | Path) -> ResNet34:
    """Return the model with weights from a safetensors file, in eval mode."""
    from safetensors.torch import load_file

    model = resnet34_antispoof()
    model.load_state_dict(load_file(weights))
    return model.eval()
