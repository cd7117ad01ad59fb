"""``shrinkspeech fit``: shrink a model to a budget."""

from __future__ import annotations

from typing import Any

from shrinkspeech import processes
from shrinkspeech_cli.amounts import Targets
from shrinkspeech_cli.data import Data
from shrinkspeech_cli.model import Source
from shrinkspeech_cli.options import options
from shrinkspeech_cli.runs import Run
from shrinkspeech_cli.states import Checkpoint, stoppable
from shrinkspeech_cli.training import Training
from shrinkspeech_cli.writing import write_run


@options
def fit(run: Run, targets: Targets, data: Data, training: Training, state: Checkpoint, source: Source) -> None:
    """Shrink a model to a budget while fine-tuning it."""
    data = data.resolved()
    training.check()
    state.check()
    run.check(state)
    from shrinkspeech.budget.registry import only_target
    from shrinkspeech.fitting.fit import fit as run_fit
    from shrinkspeech_cli.progress import progress
    from shrinkspeech_cli.summary import summary

    target = only_target(targets.given())
    wanted: dict[str, Any] = {f"target_{name}": text for name, text in targets.given().items()}
    with run.claimed(), stoppable():
        loaded, recipe = data.load(source, training.seed)
        training.check_export(loaded.captured)
        training.announce(loaded.captured)
        run.reserve(loaded.captured)
        with progress(training.steps) as on_progress:
            fitted = run_fit(
                loaded.captured,
                recipe,
                **wanted,
                **training.arguments(),
                **state.arguments(run),
                seconds=loaded.seconds,
                groups=loaded.groups,
                on_progress=on_progress,
            )
        if processes.rank() == 0:
            write_run(run.folder, fitted, source, recipe, str(target), state.file(run))
            state.remove(run)
    summary(fitted, {group.name: group.size for group in loaded.groups}, run.output)
