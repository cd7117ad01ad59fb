"""The recipe of a task: manifests and a captured model in, something for the fit out."""

from __future__ import annotations

from dataclasses import asdict, replace

from shrinkspeech.data.fingerprint import chosen, fingerprint
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import open_source
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.start import started
from shrinkspeech.tasks.base import TaskOptions, TaskRecipe
from shrinkspeech.tasks.intake import find_intake
from shrinkspeech.tasks.outputs import observe
from shrinkspeech.tasks.registry import task_class


def task_recipe(task: str, captured: Captured, data: DataOptions, options: TaskOptions | None = None) -> TaskRecipe:
    """A recipe from a task's name, after a check of the model on one batch.

    Args:
        task: one of ``task_names()``.

    Raises:
        InputError: there is no such task, or manifest, options or the model's outputs do not fit it; one sentence.
        AudioError: more than one in a hundred clips is broken.
    """
    kind, options = task_class(task), options or TaskOptions()
    for name in sorted(options.own.keys() - kind.settings.keys()):
        known = ", ".join(f"{own} ({what})" for own, what in kind.settings.items()) or "nothing"
        raise InputError(f"the task '{task}' has no setting '{name}': --set takes {known}")
    captured = started(captured)
    intake = find_intake(captured, data)
    if intake.batch is not None:
        data = replace(data, batch_size=intake.batch)
    source = open_source(data, kind.kind, intake.length, intake.frontend, whole=intake.batch is not None)
    made = kind(captured, intake, source, options)
    batch = next(source.train(workers=0))
    notes = made.prepare(observe(captured, intake, batch), batch)
    return TaskRecipe(
        train_batches=source.train,
        train_rows=source.train_rows,
        batches_from=lambda used: source.train(start=used),
        loss=made.loss if made.has_loss else None,
        evaluate=made.evaluate,
        example_inputs=lambda: tuple(x[:2] for x in intake(batch)),
        inputs=intake,
        name=f"--task {task}",
        task=task,
        labels=source.labels,
        notes=(*source.notes, *notes),
        seconds=intake.seconds,
        source=source,
        identity={
            "task": {"name": task, **asdict(options)},
            "data": fingerprint(source),
            "data options": chosen(data),
        },
    )
