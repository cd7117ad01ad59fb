"""What tells one keyword spotter from another; training, measures and recipe are written once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sample_models.dscnn_kws.data import LENGTH, SAMPLE_RATE
from sample_models.dscnn_kws.model import FEATURES, dscnn_kws
from shrinkspeech.data.frontend import FrontEnd, parse_features


@dataclass(frozen=True)
class Spotter:
    """A keyword spotter.

    Attributes:
        factory: returns the untrained model, which takes features [B, frames, bands] and gives logits [B, keywords].
        features: its front end, as `--features` takes it.
    """

    factory: Callable[[], nn.Module]
    features: str

    def example(self) -> Tensor:
        """Features of faint noise, twice: [2, frames, bands] of 1.2 s."""
        wave = 0.01 * torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(0))
        return FrontEnd(parse_features(self.features), SAMPLE_RATE, "TF")(wave).contiguous()

    @property
    def seconds(self) -> float:
        """Audio that the frames of an item stand for, in s: frames × hop, as the tool counts it."""
        features = parse_features(self.features)
        return FrontEnd(features, SAMPLE_RATE).frames(LENGTH) * features.hop / 1000


SPOTTER = Spotter(dscnn_kws, FEATURES)
