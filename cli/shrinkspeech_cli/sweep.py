"""``shrinkspeech sweep``: one run that leaves a model at each of several budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shrinkspeech import processes
from shrinkspeech.budget import quantities
from shrinkspeech_cli.data import Data
from shrinkspeech_cli.model import Source
from shrinkspeech_cli.options import either, option, options
from shrinkspeech_cli.runs import Runs
from shrinkspeech_cli.states import Checkpoint, stoppable
from shrinkspeech_cli.training import TrainingOfEach
from shrinkspeech_cli.writing import write_run

if TYPE_CHECKING:
    from shrinkspeech.fitting.report import Fitted

_KNOWN = list(quantities())


@options
def sweep(
    budgets: Annotated[
        list[str],
        option("Budgets, as for fit: --budgets 50% 25% 12.5%.", metavar="BUDGET...", show_default=False),
    ],
    quantity: Annotated[
        str,
        option(f"What the budgets are of: {either(_KNOWN)}.", "--of", metavar="QUANTITY"),
    ] = _KNOWN[0],
    *,
    runs: Runs,
    data: Data,
    training: TrainingOfEach,
    state: Checkpoint,
    source: Source,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Shrink a model to several budgets in one run: a RUN for each, a table (sweep.csv) and a plot (sweep.png)."""
    data = data.resolved()
    training.check()
    state.check()
    runs.check(state)
    from shrinkspeech.fitting.sweep import folder_name, plot, read_budgets, write_csv
    from shrinkspeech.fitting.sweep import sweep as run_sweep
    from shrinkspeech.loading.sums import write_sums
    from shrinkspeech_cli.progress import progress
    from shrinkspeech_cli.summary import sweep_summary

    chosen = [*budgets, *(more or ())]  # click gives an option one value; what follows it are arguments
    targets = {target.text: target for target in read_budgets(quantity, chosen)}
    results: dict[str, Fitted] = {}

    with runs.claimed(), stoppable():
        loaded, recipe = data.load(source, training.seed)
        training.check_export(loaded.captured)
        training.announce(loaded.captured)
        runs.reserve(loaded.captured)

        def keep(text: str, fitted: Fitted) -> None:
            results[text] = fitted
            if processes.rank():
                return
            write_run(runs.folder / folder_name(text), fitted, source, recipe, str(targets[text]), state.file(runs))
            write_csv(runs.folder / "sweep.csv", results)

        with progress(training.steps * len(targets)) as on_progress:
            run_sweep(
                loaded.captured,
                recipe,
                list(targets),
                quantity=quantity,
                **training.arguments(),
                **state.arguments(runs),
                seconds=loaded.seconds,
                groups=loaded.groups,
                on_progress=on_progress,
                on_fitted=keep,
            )
        if processes.rank() == 0:
            plot(runs.folder / "sweep.png", results)
            write_sums(runs.folder, runs.names)
            state.remove(runs)
    sweep_summary(results, runs.output)
