"""Recipe for the demo: speech synthesised by espeak-ng in generated noise, so that no data is needed.

The fit calls ``train_batches`` and ``loss``; ``evaluate`` reports the equal error rate over 10 ms frames.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this file also works when loaded by its path

from sample_models.crnn_vad.metrics import auc, eer
from sample_models.synth_speech import SynthMixtures

Batch = tuple[Tensor, Tensor]

BATCH_SIZE = 16


def train_batches() -> Iterator[Batch]:
    """Endless batches (wave [16, 48000], speech per frame [16, 301])."""
    mixtures = SynthMixtures(seed=1, utterances=200, split="train")
    while True:
        yield mixtures.batch(BATCH_SIZE)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Binary cross entropy of the frame logits [B, frames]."""
    return nn.functional.binary_cross_entropy_with_logits(outputs, batch[1])


@cache
def _test_set() -> tuple[Batch, ...]:
    return tuple(SynthMixtures(seed=2, utterances=100, split="test").fixed(128))


def evaluate(model: nn.Module) -> dict[str, float]:
    """Equal error rate in % and area under the curve on 128 mixtures with voices that training does not have."""
    with torch.no_grad():
        scores = torch.cat([model(wave).flatten() for wave, _ in _test_set()]).numpy()
    labels = torch.cat([labels.flatten() for _, labels in _test_set()]).numpy()
    return {"eer": eer(scores, labels), "auc": auc(scores, labels)}


def example_inputs() -> tuple[Tensor]:
    """Two seconds-long items of quiet noise: wave [2, 16000]."""
    return (torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1,)
