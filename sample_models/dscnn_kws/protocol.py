"""What a shrinking tool needs to know about a keyword spotter: batches, loss, measures and an example input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from torch import Tensor

from sample_models.data_folder import data_folder
from sample_models.dscnn_kws import evaluate as ev
from sample_models.dscnn_kws.data import Batch, Keywords, batches_of, pool
from sample_models.dscnn_kws.sample import Spotter
from sample_models.dscnn_kws.train import loss_of

BATCH = 32
TRAIN_SEED = 1
POOL = 2_560  # items that are prepared once for each seed: drawing them costs more than a step of a small model


def data_dir() -> Path:
    """The data folder, or a clear error."""
    return data_folder("speech.csv", "noise.csv")


@cache
def _fixed(folder: Path, split: str, features: str) -> ev.Fixed:
    return ev.fixed(folder, split, features)


@cache
def _pool(folder: Path, features: str, seed: int) -> Batch:
    return pool(Keywords(folder, "train", features, seed), POOL)


class Protocol:
    """The functions of a recipe for one spotter."""

    def __init__(self, spotter: Spotter) -> None:
        self.spotter = spotter

    def train_batches(self, seed: int = TRAIN_SEED) -> Iterator[Batch]:
        """Endless batches from the train split, the same on every call: features [32, frames, bands], classes [32]."""
        return batches_of(_pool(data_dir(), self.spotter.features, seed), BATCH, seed)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of logits [B, keywords] against the classes of the batch."""
        return loss_of(outputs, batch[1])

    def evaluate(self, model: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """{'error', 'accuracy', 'macro_f1'} in % on the val split: 125 clips, each in eight noises."""
        return ev.measure(model, _fixed(data_dir(), "val", self.spotter.features))

    def test(self, model: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """{'error', 'accuracy', 'macro_f1'} in % on the test split: 210 clips, each in ten noises."""
        return ev.measure(model, _fixed(data_dir(), "test", self.spotter.features))

    def example_inputs(self) -> tuple[Tensor]:
        """Features of 1.2 s of faint noise, twice: ([2, frames, bands],)."""
        return (self.spotter.example(),)
