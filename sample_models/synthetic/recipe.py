"""What a fit needs to know about this model: batches, loss, measures and an example input. Nothing is read from disk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder that holds sample_models

from sample_models.synthetic.data import Batch, Teacher, error
from sample_models.synthetic.model import INPUTS

METRIC = "error"  # % of the target's power
BETTER = "lower"
SECONDS = 1.0  # one item counts as a second, so that FLOP/s are FLOP per item
STEPS = 1_000
RATE = 2e-3
BATCH = 256
TRAIN_SEED = 1
TEACHER = 0  # the seed of weights.safetensors


@cache
def _fixed(seed: int) -> list[Batch]:
    batches = Teacher.of(TEACHER).batches(seed, 1024)
    return [next(batches) for _ in range(8)]


def _measure(model: Callable[[Tensor], Tensor], batches: list[Batch]) -> dict[str, float]:
    with torch.no_grad():
        return {"error": 100.0 * sum(error(model(x), y).item() for x, y in batches) / len(batches)}


def train_batches(seed: int = TRAIN_SEED) -> Iterator[Batch]:
    """Endless batches that follow from the seed: inputs [256, INPUTS] and targets."""
    return Teacher.of(TEACHER).batches(seed, BATCH)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Squared error as a share of the target's power."""
    return error(outputs, batch[1])


def evaluate(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'error': %} on 8,192 fixed inputs."""
    return _measure(model, _fixed(2023))


def test(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """{'error': %} on 8,192 other fixed inputs."""
    return _measure(model, _fixed(2024))


def example_inputs() -> tuple[Tensor]:
    """Two items: ([2, INPUTS],)."""
    return (torch.randn(2, INPUTS, generator=torch.Generator().manual_seed(0)),)
