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

from sample_models.data_folder import data_folder
from sample_models.gru_enhance import evaluate as ev
from sample_models.gru_enhance.data import Batch, Mixtures
from sample_models.gru_enhance.train import loss_of

METRIC = "si_sdr_improvement"  # dB
BETTER = "higher"
SECONDS = 1.5
TRAINED = 4_000  # steps of the original
STEPS = 300
RATE = 2e-3
BATCH = 16
TRAIN_SEED = 1


def data_dir() -> Path:
    """The data folder, or a clear error."""
    return data_folder("speech.csv", "noise.csv")


@cache
def _fixed(split: str, seed: int, n: int) -> list[ev.Fixed]:
    return Mixtures(data_dir(), split, seed).fixed(n)


def train_batches(seed: int = TRAIN_SEED) -> Iterator[Batch]:
    """Endless batches from the train split that follow from the seed: noisy and clean samples, [16, 24000] each."""
    mixtures = Mixtures(data_dir(), "train", seed)
    while True:
        yield mixtures.batch(BATCH)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Negative SI-SDR in dB of enhanced samples [B, samples]."""
    return loss_of(outputs, batch)


def evaluate(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'si_sdr': dB, 'si_sdr_improvement': dB} on 240 fixed mixtures of the val split."""
    return ev.measure(model, _fixed("val", ev.VAL_SEED, ev.VAL_MIXTURES))


def test(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'si_sdr': dB, 'si_sdr_improvement': dB} on 480 fixed mixtures of the test split."""
    return ev.measure(model, _fixed("test", ev.TEST_SEED, ev.TEST_MIXTURES))


def example_inputs() -> tuple[Tensor]:
    """1.5 s of faint noise, twice: ([2, 24000],)."""
    return (0.01 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0)),)
