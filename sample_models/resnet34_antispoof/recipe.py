"""What a shrinking tool needs to know about this model: batches, loss, measures and an example input.

The data folder comes from the environment variable SHRINKSPEECH_DATA.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder that holds sample_models

from sample_models.data_folder import data_folder
from sample_models.resnet34_antispoof import evaluate as ev
from sample_models.resnet34_antispoof.augment import Channel, mask
from sample_models.resnet34_antispoof.data import FRAMES
from sample_models.resnet34_antispoof.model import COEFFICIENTS
from sample_models.resnet34_antispoof.train import Batches, loss_of
from shrinkspeech.tasks.metrics import bootstrap_eer

METRIC = "eer"
BETTER = "lower"
SECONDS = 1.28  # a crop
TRAINED = 1_600  # steps of the original
STEPS = 300
RATE = 1e-3
BATCH = 16
TRAIN_SEED = 1
POOL = 1_024  # crops that a run draws from

Batch = tuple[Tensor, Tensor]


def data_dir() -> Path:
    """The data folder, or a clear error."""
    return data_folder("spoof.csv")


@cache
def _pool(seed: int) -> Batch:
    """Features [POOL, FRAMES, COEFFICIENTS] of crops in many channels, and their labels [POOL]."""
    batches = Batches(data_dir(), seed, Channel(masks=0))
    features, labels = zip(*(batches.batch(64) for _ in range(POOL // 64)), strict=True)
    return torch.cat(features), torch.cat(labels)


def train_batches(seed: int = TRAIN_SEED) -> Iterator[Batch]:
    """Endless batches, the same on every call with a seed: features [16, FRAMES, COEFFICIENTS], labels [16].

    The crops of the pool come in a new order each time round, with new masks.
    """
    features, labels = _pool(seed)
    rng = np.random.default_rng([seed, 1])
    while True:
        for chosen in torch.from_numpy(rng.permutation(POOL)).split(BATCH):
            yield mask(features[chosen], Channel(), rng), labels[chosen]


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean binary cross-entropy of logits [B] against the labels of the batch."""
    return loss_of(outputs, batch[1])


def evaluate(model: ev.Model) -> dict[str, float]:
    """{'eer': %, 'auc': 0 to 1} over the clips of the val split."""
    return ev.measure(*ev.clip_scores(model, data_dir(), "val"))


def test(model: ev.Model) -> dict[str, float]:
    """{'eer': %, 'auc': 0 to 1} over the clips of the test split, and the same of val as 'val_eer' and 'val_auc'."""
    val = {f"val_{name}": value for name, value in evaluate(model).items()}
    return {**ev.measure(*ev.clip_scores(model, data_dir(), "test")), **val}


def interval(model: ev.Model) -> dict[str, float]:
    """The 95 % bootstrap interval of the EER on the test split: {'low': %, 'high': %}."""
    low, high = bootstrap_eer(*ev.clip_scores(model, data_dir(), "test"), ev.ROUNDS)
    return {"low": low, "high": high}


def example_inputs() -> tuple[Tensor]:
    """Features of two crops of faint noise: ([2, FRAMES, COEFFICIENTS],)."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(2, FRAMES, COEFFICIENTS, generator=generator),)
