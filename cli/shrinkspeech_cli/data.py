"""What to train on, as ``fit`` and ``sweep`` take it: a recipe, unlabelled audio, or a task with a manifest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from shrinkspeech.defaults import BATCH_SIZE
from shrinkspeech.tasks import task_names
from shrinkspeech_cli.options import either, option
from shrinkspeech_cli.task_options import TaskData, lent_example

if TYPE_CHECKING:
    from shrinkspeech.data.options import DataOptions
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech_cli.model import Loaded, Source


@dataclass(frozen=True)
class Data:
    """Where batches and the loss come from."""

    panel: ClassVar[str] = "Data (one of the three)"

    recipe: Annotated[
        Path | None, option("Python file with train_batches() and loss(outputs, batch).", metavar="FILE.py")
    ] = None
    audio: Annotated[
        Path | None,
        option("Folder of unlabelled audio. The small model learns to give the original's outputs.", metavar="DIR"),
    ] = None
    task: Annotated[
        str | None,
        option(
            f"What the model does ({either(task_names())}). Loss and metrics come with it. Goes with --data.",
            metavar="NAME",
        ),
    ] = None
    data: Annotated[
        Path | None,
        option(
            "Clips: CSV or JSON lines (NeMo's too), one clip a row, or a folder. Goes with --task.", metavar="MANIFEST"
        ),
    ] = None
    batch_size: Annotated[int, option("Clips in a batch, with --audio or --task.", metavar="N", min=1)] = BATCH_SIZE
    details: TaskData = field(default_factory=TaskData)

    def resolved(self) -> Data:
        """The same as a recipe or a task: ``--audio DIR`` is the task 'distil' with the folder in the place of a manifest.

        Raises:
            InputError: there is not one source of data, or an option lacks the one that it belongs to.
        """
        from shrinkspeech.errors import InputError

        if self.audio is not None and self.task in (None, "distil") and self.recipe is None and self.data is None:
            if not self.audio.is_dir():
                raise InputError(f"there is no folder {self.audio}: give a folder of audio files to --audio")
            return replace(self, task="distil", data=self.audio, audio=None).resolved()
        if self.task is not None:
            self._check_task(self.task)
        elif given := (["data"] if self.data is not None else self.details.given()):
            option = given[0].replace("_", "-")
            raise InputError(f"--{option} goes with --task: say what the model does with --task")
        elif self.recipe is None or self.audio is not None:
            raise InputError(
                "say what to train on, one of them: --recipe FILE.py or --audio DIR or --task NAME with --data MANIFEST"
            )
        return self

    def _check_task(self, task: str) -> None:
        from shrinkspeech.errors import InputError

        if task not in task_names():
            raise InputError(f"there is no task '{task}': --task is {', '.join(task_names())}")
        if self.recipe is not None or self.audio is not None:
            other = "--recipe" if self.recipe else "--audio"
            raise InputError(f"--task brings its own data: leave {other} out, or --task")
        if self.data is None:
            raise InputError(f"--task {task} needs --data: give a manifest, a CSV or JSON lines file")
        self.details.check()

    def load(self, source: Source, seed: int) -> tuple[Loaded, Recipe]:
        """The model and the recipe; what the user should know is printed.

        Raises:
            InputError: nothing of the model can shrink, or the data does not serve it.
        """
        from shrinkspeech.fitting.recipe import load_recipe

        if self.task is not None:
            return self._of_task(source, self.task, seed)
        recipe = load_recipe(self.recipe)
        return source.to_fit(recipe), recipe

    def _of_task(self, source: Source, task: str, seed: int) -> tuple[Loaded, Recipe]:
        """``--crop`` lends the model an example where it has none, and ``--features`` says how long its example is."""
        from shrinkspeech.tasks.intake import audio_seconds
        from shrinkspeech.tasks.recipes import task_recipe

        data = self._options(source, seed)
        captured = lent_example(source, data)
        loaded = source.to_fit(captured=captured, seconds=audio_seconds(captured, data.features, data.sample_rate))
        made = task_recipe(task, loaded.captured, data, self.details.task_options())
        for note in made.notes:
            typer.echo(f"note: {note}", err=True)
        return loaded, made

    def _options(self, source: Source, seed: int) -> DataOptions:
        """What the user said, and what a folder of Hugging Face says of its input and its labels where the user did not."""
        given = self.details.data_options(self.data or Path(), self.batch_size, source.rate, seed)
        folder = source.folder
        if folder is None:
            return given
        return replace(given, features=given.features or folder.features, labels=given.labels or folder.labels or None)
