"""What a shrinking tool needs to know about this model: batches, loss, measures and an example input.

The data folder comes from the environment variable SHRINKSPEECH_DATA.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder that holds sample_models

from sample_models.crnn_vad.data import Batch
from sample_models.crnn_vad.evaluate import flat
from sample_models.crnn_vad.train import loss_of
from sample_models.data_folder import data_folder
from sample_models.transformer_vad import evaluate as ev
from sample_models.transformer_vad.data import pooled

METRIC = "eer"  # of test(), in %
BETTER = "lower"
SECONDS = 3.0  # of audio in an item of example_inputs: attention costs more per second the longer its input is
TRAINED = 3_600  # steps of the original
STEPS = 300
RATE = 4e-3  # peak
BATCH = 24
TRAIN_SEED = 1


def data_dir() -> Path:
    """The data folder, or a clear error."""
    return data_folder("speech.csv", "noise.csv")


def train_batches(seed: int = TRAIN_SEED) -> Iterator[Batch]:
    """Endless crops of 800 mixtures of the train split: wave [24, 32000], labels [24, 101]."""
    return pooled(data_dir(), seed, BATCH)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean binary cross-entropy of logits [B, frames] against the labels of the batch."""
    return loss_of(outputs, batch[1])


def evaluate(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'eer': %, 'auc': 0 to 1} on 300 fixed mixtures of the val split, in batches of 30."""
    return ev.report(model, data_dir(), "val")["all"]


def test(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'eer': %, 'auc': 0 to 1} on 1,200 fixed mixtures of the test split; 'eer_-5_to_0_dB' and so on in an SNR band."""
    return flat(ev.report(model, data_dir(), "test"))


def example_inputs() -> tuple[Tensor]:
    """Three seconds of faint noise, twice: ([2, 48000],)."""
    return (0.01 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0)),)
