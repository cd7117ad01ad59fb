"""What ``fit`` and ``sweep`` share: options of data and training, checks of them, and the origin of a run."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shrinkspeech_cli import options as o

if TYPE_CHECKING:
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech_cli.options import Loaded

_DATA, TRAINING = "Data (one of the two)", "Training"

RecipeFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.py", help="Python file with train_batches() and loss(outputs, batch).", rich_help_panel=_DATA
    ),
]
Audio = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Unlabelled audio: train towards the original's own outputs.", rich_help_panel=_DATA
    ),
]
BatchSize = Annotated[
    int, typer.Option(metavar="N", min=1, help="Clips in a batch, with --audio or --task.", rich_help_panel=_DATA)
]
Steps = Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps.", rich_help_panel=TRAINING)]
StepsEach = Annotated[
    int, typer.Option("--steps", metavar="N", min=1, help="Steps for each budget.", rich_help_panel=TRAINING)
]
LearningRate = Annotated[float, typer.Option(metavar="LR", help="Highest learning rate.", rich_help_panel=TRAINING)]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of everything random.", rich_help_panel=TRAINING)]
RoundTo = Annotated[
    int, typer.Option(metavar="N", min=1, help="Widths are multiples of this.", rich_help_panel=TRAINING)
]
Distil = Annotated[
    float,
    typer.Option(
        metavar="W",
        min=0.0,
        help="Weight of the distance to the original's outputs beside the task's loss; 0 for none.",
        rich_help_panel=TRAINING,
    ),
]
DISTIL = 16.0  # as in shrinkspeech.settings, which is slow to import


@dataclass(frozen=True)
class Data:
    """What to train on, as the command line says it."""

    recipe: Path | None
    audio: Path | None
    batch_size: int
    sample_rate: int
    seed: int

    def load(self, source: o.Source) -> tuple[Loaded, Recipe]:
        """The model and the recipe.

        Raises:
            InputError: nothing of the model can shrink, or the audio does not serve it.
        """
        from shrinkspeech.errors import InputError
        from shrinkspeech.fitting.recipe import load_recipe

        chosen = load_recipe(self.recipe) if self.recipe else None
        loaded = source.load(chosen)
        if not loaded.groups.shrinkable:
            raise InputError(f"no group of {source.model} can shrink: 'shrinkspeech inspect' says why")
        return loaded, chosen or self._unlabelled(loaded, self.audio or Path())

    def _unlabelled(self, loaded: Loaded, audio: Path) -> Recipe:
        """Crops of the example's own length, in the shape that the model takes."""
        from shrinkspeech.errors import InputError
        from shrinkspeech.loading.examples import waveform
        from shrinkspeech.tasks.unlabelled import distil_recipe

        captured = loaded.captured
        samples = waveform(captured)
        if samples is None or len(captured.example_inputs) != 1:
            raise InputError(
                "--audio serves models whose only input is a waveform: write a recipe and give it with --recipe"
            )
        first = captured.example_inputs[0]
        size = self.batch_size if 0 in captured.dynamic[0] else int(first.shape[0])
        rate = self.sample_rate
        return distil_recipe(audio, samples / rate, size, rate, self.seed, channel=first.dim() == 3)


def check_usage(recipe: Path | None, audio: Path | None, output: Path, overwrite: bool, learning_rate: float) -> None:
    """What can be refused before anything is loaded.

    Raises:
        InputError: options contradict each other, or the output cannot be written.
    """
    from shrinkspeech.errors import InputError

    if (recipe is None) == (audio is None):
        raise InputError(
            "give a recipe with --recipe FILE.py or a folder of unlabelled audio with --audio DIR, one of them"
        )
    if learning_rate <= 0:
        raise InputError("--learning-rate must be above zero")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder to -o")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise InputError(f"{output} is not empty: give another folder to -o, or --overwrite")
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"cannot write to {there}: give another folder to -o")


def write_origin(run: Path, source: o.Source, budget: str) -> None:
    """``origin.json``: what the small model was made from, for the metadata of an export."""
    from shrinkspeech import __version__
    from shrinkspeech.files import replacing

    file = Path(source.weights or source.model)
    facts: dict[str, Any] = {
        "source": Path(source.model).name,
        "factory": source.factory,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        "budget": budget,
        "version": __version__,
    }
    with replacing(run / "origin.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
