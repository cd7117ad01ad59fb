"""``shrinkspeech fit``: shrink a model to a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shrinkspeech_cli import options as o
from shrinkspeech_cli import training as t
from shrinkspeech_cli.task_options import NO_TASK, TaskChoice, with_task, write_task

_TARGET = "Target (one of them)"


@with_task
def fit(
    model: o.Model,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="RUN", help="Folder to write the small model to.", show_default=False),
    ],
    target_flops: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET", help="25%, 0.25x, 600k or 1.2M FLOP per second of audio.", rich_help_panel=_TARGET
        ),
    ] = None,
    target_params: Annotated[
        str | None, typer.Option(metavar="BUDGET", help="25%, 0.25x or 50k parameters.", rich_help_panel=_TARGET)
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET", help="25% or 300kB of float32 weights in the ONNX file.", rich_help_panel=_TARGET
        ),
    ] = None,
    target_latency: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET",
            help="50% or 2ms in onnxruntime for a batch of one of the example's length: one thread of this machine.",
            rich_help_panel=_TARGET,
        ),
    ] = None,
    recipe: t.RecipeFile = None,
    audio: t.Audio = None,
    batch_size: t.BatchSize = 16,
    steps: t.Steps = 1000,
    learning_rate: t.LearningRate = 2e-3,
    seed: t.Seed = 0,
    round_to: t.RoundTo = 1,
    distil: t.Distil = t.DISTIL,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the state of the fit here, every 100 steps.", rich_help_panel=t.TRAINING
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint.", rich_help_panel=t.TRAINING)
    ] = False,
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
    task: TaskChoice = NO_TASK,
) -> None:
    """Shrink a model to a budget while fine-tuning it."""
    task, audio = task.with_audio(audio)
    task.check(recipe, audio)
    t.check_usage(recipe, audio or task.data, output, overwrite, learning_rate)
    from shrinkspeech.budget.quantity import only_target
    from shrinkspeech.fitting.fit import fit as run_fit
    from shrinkspeech.fitting.settings import Settings
    from shrinkspeech_cli.progress import progress
    from shrinkspeech_cli.summary import summary

    target = only_target(flops=target_flops, params=target_params, size=target_size, latency=target_latency)
    source = o.Source(model, factory, weights, trust_pickle, example, seconds, sample_rate, exclude, only, min_width)
    if task.task:
        loaded, chosen = task.load(source, batch_size, sample_rate, seed)
    else:
        loaded, chosen = t.Data(recipe, audio, batch_size, sample_rate, seed).load(source)
    with progress(steps) as on_progress:
        fitted = run_fit(
            loaded.captured,
            chosen,
            target_flops,
            target_params=target_params,
            target_size=target_size,
            target_latency=target_latency,
            steps=steps,
            seed=seed,
            seconds=loaded.seconds,
            groups=loaded.groups,
            learning_rate=learning_rate,
            round_to=round_to,
            settings=Settings(distil=distil),
            on_progress=on_progress,
            checkpoint=checkpoint,
            resume=resume,
        )
    fitted.save(output)
    t.write_origin(output, source, str(target))
    write_task(output, chosen)
    summary(fitted, {group.name: group.size for group in loaded.groups}, output)
