"""What is shrunk: the trained sample models, each with its recipe and its original."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

import shrinkspeech
from shrinkspeech.graph.captured import Captured

SAMPLES = Path(__file__).parents[2] / "sample_models"
FIRST_SEED = 1000
NAMES = ("crnn_vad", "transformer_vad", "dscnn_kws", "tcresnet_kws", "resnet34_antispoof", "gru_enhance")


@dataclass(frozen=True)
class Case:
    """One trained model: ``sample_models/NAME`` with ``model.py``, ``recipe.py`` and ``weights.safetensors``."""

    name: str

    @cached_property
    def recipe(self) -> Any:
        """The sample model's recipe module: METRIC, BETTER, SECONDS, TRAINED, STEPS, RATE, train_batches(seed), loss, test."""
        return import_module(f"sample_models.{self.name}.recipe")

    def original(self) -> nn.Module:
        """The trained model in eval mode."""
        model: nn.Module = import_module(f"sample_models.{self.name}.model").load(
            SAMPLES / self.name / "weights.safetensors"
        )
        return model

    def captured(self) -> Captured:
        return shrinkspeech.capture(self.original(), self.recipe.example_inputs())

    def shifted(self) -> Any:
        """The recipe module with other training batches, for every seed, than those that the original was trained on."""
        public = {name: value for name, value in vars(self.recipe).items() if not name.startswith("_")}
        return SimpleNamespace(**{**public, "train_batches": lambda seed: self.recipe.train_batches(FIRST_SEED + seed)})

    def seeded(self, seed: int) -> Any:
        """What ``fit`` takes, with the training batches of one seed."""
        names = ("loss", "evaluate", "example_inputs", "inputs")
        functions = {name: getattr(self.recipe, name) for name in names if hasattr(self.recipe, name)}
        return SimpleNamespace(train_batches=lambda: self.shifted().train_batches(seed), **functions)

    @property
    def lower(self) -> bool:
        """Whether a smaller metric is better."""
        return bool(self.recipe.BETTER == "lower")
