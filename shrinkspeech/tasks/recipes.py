"""The recipe of a task: manifests and a captured model in, something for the fit out."""

from __future__ import annotations

from dataclasses import replace

from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import open_source
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks import TASKS
from shrinkspeech.tasks.base import Task, TaskOptions, TaskRecipe
from shrinkspeech.tasks.classify import Classify
from shrinkspeech.tasks.distil import Distil
from shrinkspeech.tasks.enhance import Enhance
from shrinkspeech.tasks.intake import find_intake
from shrinkspeech.tasks.reading import observe
from shrinkspeech.tasks.spoof import Spoof
from shrinkspeech.tasks.vad import Vad

CLASSES: dict[str, type[Task]] = {
    "vad": Vad,
    "classify": Classify,
    "spoof": Spoof,
    "enhance": Enhance,
    "distil": Distil,
}


def task_recipe(task: str, captured: Captured, data: DataOptions, options: TaskOptions | None = None) -> TaskRecipe:
    """A recipe from a task's name, after a check of the model on one batch.

    Args:
        task: ``vad``, ``classify``, ``spoof``, ``enhance`` or ``distil``.

    Raises:
        InputError: the manifest, the options or the model's outputs do not fit the task; one sentence.
        AudioError: more than one in a hundred clips is broken.
    """
    if task not in CLASSES:
        raise InputError(f"there is no task '{task}': --task is {', '.join(TASKS)}")
    kind = CLASSES[task]
    intake = find_intake(captured, data)
    if intake.batch is not None:
        data = replace(data, batch_size=intake.batch)
    source = open_source(data, kind.kind, intake.length, intake.frontend, whole=intake.batch is not None)
    made = kind(captured, intake, source, options or TaskOptions())
    batch = next(source.train(workers=0))
    notes = made.prepare(observe(captured, intake, batch), batch)
    return TaskRecipe(
        train_batches=source.train,
        loss=None if task == "distil" else made.loss,
        evaluate=made.evaluate,
        example_inputs=lambda: tuple(x[:2] for x in intake(batch)),
        inputs=intake,
        name=f"--task {task}",
        task=task,
        labels=source.labels,
        notes=(*source.notes, *notes),
        seconds=intake.seconds,
        source=source,
    )
