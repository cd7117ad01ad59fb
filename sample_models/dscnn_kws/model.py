"""The network: log-mel features in, one logit for each of six keywords out.

The shape of DS-CNN-S (Zhang et al., *Hello Edge: Keyword Spotting on Microcontrollers*, 2017): a convolution of 10 × 4
with stride 2, four depthwise-separable blocks of 64 channels, the mean over time and frequency, and a linear layer.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

KEYWORDS = ("alexa", "computer", "jarvis", "smart_mirror", "snowboy", "view_glass")
FEATURES = "logmel:20,32ms,20ms,norm=item"
BANDS = 20


def conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution + batch norm + ReLU: [B, inputs, T, F] -> [B, outputs, about T / stride, about F / stride]."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def separable(channels: int) -> nn.Sequential:
    """A 3 × 3 convolution of each channel, then a mix of the channels: [B, channels, T, F], the shape is kept."""
    return nn.Sequential(conv(channels, channels, (3, 3), groups=channels), conv(channels, channels, (1, 1)))


class DSCNN(nn.Module):
    """Keyword spotter: features [B, frames, BANDS] -> logits [B, keywords]."""

    def __init__(self, channels: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.stem = conv(1, channels, (10, 4), stride=2)
        self.blocks = nn.Sequential(*(separable(channels) for _ in range(blocks)))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(channels, len(KEYWORDS))

    def forward(self, features: Tensor) -> Tensor:
        """[B, frames, BANDS] -> logits [B, keywords], in the order of KEYWORDS."""
        maps = self.blocks(self.stem(features.unsqueeze(1)))  # [B, C, T, F]
        return self.head(self.dropout(maps.mean((2, 3))))


def dscnn_kws() -> DSCNN:
    """Return the untrained model."""
    return DSCNN()


def load(weights: str | Path) -> DSCNN:
    """Return the model with weights from a safetensors file, in eval mode."""
    model = dscnn_kws()
    model.load_state_dict(load_file(weights))
    return model.eval()
