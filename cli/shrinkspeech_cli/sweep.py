"""``shrinkspeech sweep``: one run that leaves a model at each of several budgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shrinkspeech_cli import options as o
from shrinkspeech_cli import training as t
from shrinkspeech_cli.task_options import NO_TASK, TaskChoice, with_task, write_task

if TYPE_CHECKING:
    from shrinkspeech.fitting.report import Fitted


@with_task
def sweep(
    model: o.Model,
    budgets: Annotated[
        list[str],
        typer.Option(metavar="BUDGET...", help="Budgets, as for fit: --budgets 50% 25% 12.5%.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder to write a RUN for each budget to.", show_default=False
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    quantity: Annotated[
        str, typer.Option("--of", metavar="QUANTITY", help="What the budgets are of: flops, params, size or latency.")
    ] = "flops",
    recipe: t.RecipeFile = None,
    audio: t.Audio = None,
    batch_size: t.BatchSize = 16,
    steps: t.StepsEach = 1000,
    learning_rate: t.LearningRate = 2e-3,
    seed: t.Seed = 0,
    round_to: t.RoundTo = 1,
    distil: t.Distil = t.DISTIL,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a DIR that is there already.")] = False,
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
    """Shrink a model to several budgets in one run: a RUN for each, a table (sweep.csv) and a plot (sweep.png)."""
    task, audio = task.with_audio(audio)
    task.check(recipe, audio)
    t.check_usage(recipe, audio or task.data, output, overwrite, learning_rate)
    from shrinkspeech.fitting.settings import Settings
    from shrinkspeech.fitting.sweep import folder_name, plot, read_budgets, write_csv
    from shrinkspeech.fitting.sweep import sweep as run_sweep
    from shrinkspeech_cli.progress import progress
    from shrinkspeech_cli.summary import sweep_summary

    chosen_budgets = [*budgets, *(more or ())]  # click gives an option one value; what follows it are arguments
    targets = {target.budget.text: target for target in read_budgets(quantity, chosen_budgets)}
    source = o.Source(model, factory, weights, trust_pickle, example, seconds, sample_rate, exclude, only, min_width)
    if task.task:
        loaded, chosen = task.load(source, batch_size, sample_rate, seed)
    else:
        loaded, chosen = t.Data(recipe, audio, batch_size, sample_rate, seed).load(source)
    results: dict[str, Fitted] = {}

    def keep(text: str, fitted: Fitted) -> None:
        results[text] = fitted
        run = output / folder_name(text)
        fitted.save(run)
        t.write_origin(run, source, str(targets[text]))
        write_task(run, chosen)
        write_csv(output / "sweep.csv", results)

    with progress(steps * len(targets)) as on_progress:
        run_sweep(
            loaded.captured,
            chosen,
            list(targets),
            quantity=quantity,
            steps=steps,
            seed=seed,
            seconds=loaded.seconds,
            groups=loaded.groups,
            learning_rate=learning_rate,
            round_to=round_to,
            settings=Settings(distil=distil),
            on_progress=on_progress,
            on_fitted=keep,
        )
    plot(output / "sweep.png", results)
    sweep_summary(results, output)
