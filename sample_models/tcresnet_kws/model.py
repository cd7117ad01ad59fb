"""The network: log-mel features in, one logit for each of six keywords out.

The shape of TC-ResNet8 (Choi et al., *Temporal Convolution for Real-time Keyword Spotting on Mobile Devices*, 2019):
bands are the channels of convolutions over time; a convolution of 3 frames, three residual blocks of 9 frames with
stride 2 (24, 32, 48 channels), the mean over time, and a linear layer.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from sample_models.dscnn_kws.model import KEYWORDS

FEATURES = "logmel:40,25ms,10ms,norm=item"
BANDS = 40


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution + batch norm: [B, inputs, T] -> [B, outputs, about T / stride]."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
    )


class Block(nn.Module):
    """Two convolutions of 9 frames with a shortcut of one frame: [B, inputs, T] -> [B, outputs, about T / 2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, 9, 2), nn.ReLU(), conv(outputs, outputs, 9))
        self.shortcut = nn.Sequential(conv(inputs, outputs, 1, 2), nn.ReLU())
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


class TCResNet(nn.Module):
    """Keyword spotter: features [B, frames, BANDS] -> logits [B, keywords]."""

    def __init__(self, channels: tuple[int, ...] = (16, 24, 32, 48)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(BANDS, channels[0], 3), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in pairwise(channels)))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(channels[-1], len(KEYWORDS))

    def forward(self, features: Tensor) -> Tensor:
        """[B, frames, BANDS] -> logits [B, keywords], in the order of KEYWORDS."""
        hidden = self.blocks(self.stem(features.transpose(1, 2)))  # [B, C, T]
        return self.head(self.dropout(hidden.mean(2)))


def tcresnet_kws() -> TCResNet:
    """Return the untrained model."""
    return TCResNet()


def load(weights: str | Path) -> TCResNet:
    """Return the model with weights from a safetensors file, in eval mode."""
    model = tcresnet_kws()
    model.load_state_dict(load_file(weights))
    return model.eval()
