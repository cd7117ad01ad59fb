"""``shrinkspeech fit``: shrink a model to a budget."""

from __future__ import annotations

from typing import Any

from shrinkspeech_cli.amounts import Targets
from shrinkspeech_cli.data import Data
from shrinkspeech_cli.model import Source
from shrinkspeech_cli.options import options
from shrinkspeech_cli.training import Checkpoint, Run, Training, write_run


@options
def fit(run: Run, targets: Targets, data: Data, training: Training, state: Checkpoint, source: Source) -> None:
    """Shrink a model to a budget while fine-tuning it."""
    data = data.resolved()
    training.check()
    run.check()
    from shrinkspeech.budget.registry import only_target
    from shrinkspeech.fitting.fit import fit as run_fit
    from shrinkspeech_cli.progress import progress
    from shrinkspeech_cli.summary import summary

    target = only_target(targets.given())
    wanted: dict[str, Any] = {f"target_{name}": text for name, text in targets.given().items()}
    loaded, recipe = data.load(source, training.seed)
    training.announce(loaded.captured)
    with progress(training.steps) as on_progress:
        fitted = run_fit(
            loaded.captured,
            recipe,
            **wanted,
            **training.arguments(),
            seconds=loaded.seconds,
            groups=loaded.groups,
            on_progress=on_progress,
            checkpoint=state.checkpoint,
            resume=state.resume,
        )
    write_run(run.output, fitted, source, recipe, str(target))
    summary(fitted, {group.name: group.size for group in loaded.groups}, run.output)
