"""What a shrinking tool needs to know about this model: batches, loss, measures and an example input.

The data folder comes from the environment variable SHRINKSPEECH_DATA.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder that holds sample_models

from sample_models.crnn_vad import evaluate as ev
from sample_models.crnn_vad.data import Batch, Measured, Mixtures
from sample_models.crnn_vad.train import loss_of
from sample_models.data_folder import data_folder

METRIC, BETTER = "eer", "lower"  # of test(), in %
SECONDS = 1.0  # of audio in one item of the example
TRAINED = 1_100  # steps of the original
STEPS, RATE = 200, 2e-3  # of a benchmark run
BATCH = 32
TRAIN_SEED = 1


def data_dir() -> Path:
    """The data folder, or a clear error."""
    return data_folder("speech.csv", "noise.csv")


@cache
def _fixed(split: str, seed: int, n: int) -> list[Measured]:
    return Mixtures(data_dir(), split, seed).fixed_with_snr(n)


def train_batches(seed: int = TRAIN_SEED) -> Iterator[Batch]:
    """Endless batches from the train split, the same for the same seed: wave [32, 48000], labels [32, 301]."""
    mixtures = Mixtures(data_dir(), "train", seed)
    while True:
        yield mixtures.batch(BATCH)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean binary cross-entropy of logits [B, frames] against the labels of the batch."""
    return loss_of(outputs, batch[1])


def evaluate(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'eer': %, 'auc': 0 to 1} on 300 fixed mixtures of the val split, in batches of 30."""
    return ev.report(model, _fixed("val", ev.VAL_SEED, ev.VAL_MIXTURES))["all"]


def test(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'eer': %, 'auc': 0 to 1} on 1,200 fixed mixtures of the test split; 'eer_-5_to_0_dB' and so on in an SNR band."""
    return ev.flat(ev.report(model, _fixed("test", ev.TEST_SEED, ev.TEST_MIXTURES)))


def example_inputs() -> tuple[Tensor]:
    """One second of faint noise, twice: ([2, 16000],)."""
    return (0.01 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)),)
