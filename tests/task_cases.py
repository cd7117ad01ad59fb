"""Small models, recipes and labelled clips for the tests of tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.data.items import Batch
from shrinkspeech.data.options import DataOptions
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks.base import TaskOptions, TaskRecipe
from shrinkspeech.tasks.recipes import task_recipe
from tests.audio_files import LENGTH, RATE, table, tone, write


class Net(nn.Module):
    """[B, S] → whatever ``shape`` makes of [B, C, T]: frames of 80 samples, centred on multiples of 80."""

    def __init__(self, classes: int, shape: Callable[[Tensor], Any], width: int = 8) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv1d(1, width, 80, 80, padding=40), nn.Conv1d(width, classes, 1)
        self.shape = shape

    def forward(self, x: Tensor) -> Any:
        return self.shape(self.out(torch.relu(self.inside(x.unsqueeze(1)))))


def net(classes: int, shape: Callable[[Tensor], Any] = lambda x: x) -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Net(classes, shape).eval(), (torch.randn(2, LENGTH),))


def recipe(
    task: str, captured: Captured, manifest: Path, options: TaskOptions | None = None, **data: Any
) -> TaskRecipe:
    return task_recipe(
        task, captured, DataOptions(manifest, sample_rate=RATE, workers=0, batch_size=4, **data), options
    )


def lost(made: TaskRecipe, outputs: Any, batch: Batch) -> float:
    assert made.loss is not None
    return float(made.loss(outputs, batch).detach())


def measured(made: TaskRecipe, model: Any) -> dict[str, float]:
    assert made.evaluate is not None
    return dict(made.evaluate(model))


def of_labels(folder: Path, *labels: str) -> Path:
    """Two clips of each label to train on and one to validate on: a pitch for each label."""
    rows = []
    for i, label in enumerate(labels):
        for j, split in enumerate(("train", "train", "val")):
            name = write(folder / f"{i}{j}.wav", tone(0.25 + 0.01 * j, 300 + 500 * i)).name
            rows.append({"path": name, "label": label, "split": split})
    return table(folder / "labels.csv", rows)
