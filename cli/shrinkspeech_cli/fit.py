"""``shrinkspeech fit``: shrink a model to a budget."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shrinkspeech_cli import options as o

if TYPE_CHECKING:
    from shrinkspeech.recipe import Recipe
    from shrinkspeech_cli.options import Loaded

_DATA, _TRAINING = "Data (one of the two)", "Training"


def fit(
    model: o.Model,
    target_flops: Annotated[
        str,
        typer.Option(metavar="BUDGET", help="25%, 0.25x, 600k or 1.2M FLOP per second of audio.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="RUN", help="Folder to write the small model to.", show_default=False),
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py", help="Python file with train_batches() and loss(outputs, batch).", rich_help_panel=_DATA
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Unlabelled audio: train towards the original's own outputs.", rich_help_panel=_DATA
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Crops in a batch, with --audio.", rich_help_panel=_DATA)
    ] = 16,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps.", rich_help_panel=_TRAINING)] = 1000,
    learning_rate: Annotated[
        float, typer.Option(metavar="LR", help="Highest learning rate.", rich_help_panel=_TRAINING)
    ] = 2e-3,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of everything random.", rich_help_panel=_TRAINING)] = 0,
    round_to: Annotated[
        int, typer.Option(metavar="N", min=1, help="Widths are multiples of this.", rich_help_panel=_TRAINING)
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a RUN that is there already.")] = False,
    factory: o.Factory = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    example: o.Example = None,
    seconds: o.Seconds = None,
    sample_rate: o.SampleRate = 16_000,
    exclude: o.Exclude = None,
    only: o.Only = None,
    min_width: o.MinWidth = 1,
) -> None:
    """Shrink a model to a FLOP/s budget while fine-tuning it."""
    from shrinkspeech.errors import InputError

    _check_usage(recipe, audio, output, overwrite, learning_rate)
    from shrinkspeech.budget import parse_budget
    from shrinkspeech.fitting import fit as run_fit
    from shrinkspeech.recipe import load_recipe
    from shrinkspeech_cli.progress import progress
    from shrinkspeech_cli.summary import summary

    parse_budget(target_flops)
    source = o.Source(model, factory, weights, trust_pickle, example, seconds, sample_rate, exclude, only, min_width)
    chosen = load_recipe(recipe) if recipe else None
    loaded = source.load(chosen)
    if not loaded.groups.shrinkable:
        raise InputError(f"no group of {model} can shrink: 'shrinkspeech inspect' says why")
    chosen = chosen or _unlabelled(loaded, audio or Path(), batch_size, sample_rate, seed)
    with progress(steps) as on_progress:
        fitted = run_fit(
            loaded.captured,
            chosen,
            target_flops,
            steps=steps,
            seed=seed,
            seconds=loaded.seconds,
            groups=loaded.groups,
            learning_rate=learning_rate,
            round_to=round_to,
            on_progress=on_progress,
        )
    fitted.save(output)
    _write_origin(output, source, target_flops)
    summary(fitted, {group.name: group.size for group in loaded.groups}, output)


def _check_usage(recipe: Path | None, audio: Path | None, output: Path, overwrite: bool, learning_rate: float) -> None:
    """What can be refused before anything is loaded."""
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


def _unlabelled(loaded: Loaded, audio: Path, batch_size: int, sample_rate: int, seed: int) -> Recipe:
    """Crops of the example's own length, in the shape that the model takes."""
    from shrinkspeech.errors import InputError
    from shrinkspeech.examples import waveform
    from shrinkspeech.unlabelled import distil_recipe

    captured = loaded.captured
    samples = waveform(captured)
    if samples is None or len(captured.example_inputs) != 1:
        raise InputError(
            "--audio serves models whose only input is a waveform: write a recipe and give it with --recipe"
        )
    first = captured.example_inputs[0]
    size = batch_size if 0 in captured.dynamic[0] else int(first.shape[0])
    return distil_recipe(audio, samples / sample_rate, size, sample_rate, seed, channel=first.dim() == 3)


def _write_origin(run: Path, source: o.Source, budget: str) -> None:
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
