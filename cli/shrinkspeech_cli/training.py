"""How ``fit`` and ``sweep`` train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from shrinkspeech.defaults import LEARNING_RATE, ROUND_TO, STEPS
from shrinkspeech.fitting.settings import PRECISIONS, Settings
from shrinkspeech_cli.model import fixed_texts
from shrinkspeech_cli.options import either, option
from shrinkspeech_cli.several import refuse_alone
from shrinkspeech_cli.status import doing

if TYPE_CHECKING:
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
    accumulate: Annotated[int, option("Batches in a step, whose gradients are averaged.", metavar="N", min=1)] = (
        Settings.accumulate
    )
    mixed_precision: Annotated[
        str | None,
        option(
            "bf16 computes in bfloat16 where that is safe, no in float32. Without it what accelerate launch says.",
            metavar="KIND",
        ),
    ] = None
    checkpoint_activations: Annotated[
        bool,
        option(
            "Keep few activations for the backward pass and compute the others again: for large models.",
            "--checkpoint-activations",
        ),
    ] = False
    train_frozen: Annotated[
        bool,
        option(
            "Train parameters too that their owner froze (requires_grad=False, or read under no_grad alone), but for "
            "Fourier transforms.",
            "--train-frozen",
        ),
    ] = False
    no_export_check: Annotated[
        bool,
        option("Fit though no ONNX file can be written of the model.", "--no-export-check"),
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

        refuse_alone()
        if self.mixed_precision not in (None, *PRECISIONS):
            raise InputError(f"--mixed-precision is {either(PRECISIONS)}: fp16 loses small gradients")
        if not 0 < self.learning_rate < math.inf:
            raise InputError("--learning-rate must be a number above zero")

    def check_export(self, captured: Captured) -> None:
        """
        Raises:
            InputError: no ONNX file can be written of the model, and nobody said that this may be so.
        """
        from shrinkspeech.errors import InputError
        from shrinkspeech.export.forecast import missing

        if self.no_export_check:
            return
        with doing("looking for what has no form in ONNX"):
            found = missing(captured)
        if found:
            raise InputError(
                f"by the exporter's tables no ONNX file can be written of this model: {found[0].text}; write that part in "
                "other operators, or give --no-export-check to fit it all the same"
            )

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
            "settings": Settings(
                distil=self.distil,
                train_frozen=self.train_frozen,
                accumulate=self.accumulate,
                mixed_precision=self.mixed_precision,
                checkpoint_activations=self.checkpoint_activations,
            ),
            "ignore_uncounted": self.ignore_uncounted,
        }


@dataclass(frozen=True)
class TrainingOfEach(Training):
    """How to train at each of several budgets."""

    steps: Annotated[int, option("Optimiser steps for each budget.", metavar="N", min=1)] = STEPS
