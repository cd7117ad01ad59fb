"""What ``fit`` and ``sweep`` share: how to train, where to write, and what a run keeps beside the model."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from shrinkspeech.defaults import CHECKPOINT_EVERY, LEARNING_RATE, ROUND_TO, STEPS
from shrinkspeech.fitting.settings import Settings
from shrinkspeech_cli.model import Source, fixed_texts
from shrinkspeech_cli.options import option
from shrinkspeech_cli.task_options import write_task

if TYPE_CHECKING:
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.fitting.report import Fitted
    from shrinkspeech.graph.captured import Captured


@dataclass(frozen=True)
class Training:
    """How to train."""

    panel: ClassVar[str] = "Training"

    steps: Annotated[int, option("Optimiser steps.", metavar="N", min=1)] = STEPS
    learning_rate: Annotated[float, option("Highest learning rate.", metavar="LR")] = LEARNING_RATE
    seed: Annotated[int, option("Seed of everything random.", metavar="N")] = 0
    round_to: Annotated[int, option("Widths are multiples of this.", metavar="N", min=1)] = ROUND_TO
    distil: Annotated[
        float,
        option(
            "Weight of the distance to the original's outputs beside the loss of the task. 0 is none.",
            metavar="W",
            min=0.0,
        ),
    ] = Settings.distil
    train_frozen: Annotated[
        bool,
        option(
            "Train parameters too that their owner froze (requires_grad=False, or read under no_grad alone), but for "
            "Fourier transforms.",
            "--train-frozen",
        ),
    ] = False
    ignore_uncounted: Annotated[
        bool,
        option(
            "Accept a budget of FLOP/s though some operators cannot be counted: they stand with nothing.",
            "--ignore-uncounted",
        ),
    ] = False

    def check(self) -> None:
        """
        Raises:
            InputError: a value is out of range.
        """
        from shrinkspeech.errors import InputError

        if not 0 < self.learning_rate < math.inf:
            raise InputError("--learning-rate must be a number above zero")

    def announce(self, captured: Captured) -> None:
        """Say what of the model is not trained, or was frozen by its owner, if anything, and what becomes of it."""
        from shrinkspeech.graph.frozen import frozen, transforms

        for text in fixed_texts(frozen(captured), transforms(captured), self.train_frozen):
            typer.echo(f"note: {text}")

    def arguments(self) -> dict[str, Any]:
        """Arguments of the library's ``fit`` and ``sweep``."""
        return {
            "steps": self.steps,
            "seed": self.seed,
            "learning_rate": self.learning_rate,
            "round_to": self.round_to,
            "settings": Settings(distil=self.distil, train_frozen=self.train_frozen),
            "ignore_uncounted": self.ignore_uncounted,
        }


@dataclass(frozen=True)
class TrainingOfEach(Training):
    """How to train at each of several budgets."""

    steps: Annotated[int, option("Optimiser steps for each budget.", metavar="N", min=1)] = STEPS


@dataclass(frozen=True)
class Checkpoint:
    """Whether a fit can go on after it was stopped."""

    panel: ClassVar[str] = "Training"

    checkpoint: Annotated[
        Path | None, option(f"Write the state of the fit to this file every {CHECKPOINT_EVERY} steps.", metavar="FILE")
    ] = None
    resume: Annotated[bool, option("Go on from the file that --checkpoint names.", "--resume")] = False


@dataclass(frozen=True)
class Run:
    """The folder that a fit writes."""

    output: Annotated[
        Path, option("Folder to write the small model to.", "--output", "-o", metavar="RUN", show_default=False)
    ]
    overwrite: Annotated[bool, option("Write into a RUN that is there already.", "--overwrite")] = False

    def check(self) -> None:
        """
        Raises:
            InputError: the folder cannot be written, or holds something.
        """
        from shrinkspeech.errors import InputError

        if self.output.exists() and not self.output.is_dir():
            raise InputError(f"{self.output} is a file: give a folder to -o")
        if self.output.is_dir() and any(self.output.iterdir()) and not self.overwrite:
            raise InputError(f"{self.output} is not empty: give another folder to -o, or --overwrite")
        there = next(folder for folder in (self.output, *self.output.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise InputError(f"cannot write to {there}: give another folder to -o")


@dataclass(frozen=True)
class Runs(Run):
    """The folder that a sweep writes."""

    output: Annotated[
        Path,
        option("Folder to write a RUN for each budget to.", "--output", "-o", metavar="DIR", show_default=False),
    ]
    overwrite: Annotated[bool, option("Write into a DIR that is there already.", "--overwrite")] = False


def write_run(folder: Path, fitted: Fitted, source: Source, recipe: Recipe, budget: str) -> None:
    """The small model, its reports, what it was made from, and what its task was."""
    fitted.save(folder)
    _write_origin(folder, source, budget)
    write_task(folder, recipe)
    _write_pretrained(folder, fitted, source)


def _write_pretrained(run: Path, fitted: Fitted, source: Source) -> None:
    """``transformers/`` in a run: the small model for ``from_pretrained``, where its configuration can say the widths."""
    from shrinkspeech.errors import InputError
    from shrinkspeech.loading.huggingface import class_named
    from shrinkspeech.loading.pretrained import save_pretrained

    kept, spec = source.folder, source.loading.factory if source.loading.weights is None else source.model
    if kept is None or (spec is not None and class_named(spec) is None):
        return
    try:
        notes = save_pretrained(fitted.captured, kept, run / "transformers", spec)
    except InputError as error:
        typer.echo(
            f"note: {run / 'transformers'} is not written, {error}: "
            f"shrinkspeech.load_into(model, '{run}') puts the small model into your own"
        )
        return
    typer.echo(f"wrote {run / 'transformers'}, for from_pretrained" + (f" ({'; '.join(notes)})" if notes else ""))


def _write_origin(folder: Path, source: Source, budget: str) -> None:
    """``origin.json``: what the small model was made from, for the metadata of an export."""
    from shrinkspeech import __version__
    from shrinkspeech.files import replacing

    factory, weights, kept = source.loading.factory, source.loading.weights, source.folder
    file = Path(weights or source.model) if kept is None else kept.path / "model.safetensors"
    facts: dict[str, Any] = {
        "source": Path(source.model).name,
        "factory": factory,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        "budget": budget,
        "version": __version__,
    }
    if kept is not None:
        facts |= {"sample_rate": kept.rate, "processor": kept.facts}
    with replacing(folder / "origin.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
