"""The state of a fit: where it is kept, and what happens where a signal ends the fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from shrinkspeech.defaults import CHECKPOINT_EVERY
from shrinkspeech_cli.options import option

if TYPE_CHECKING:
    from shrinkspeech_cli.runs import Run

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a fit is, so that it can go on after it was stopped."""

    panel: ClassVar[str] = "Training"

    checkpoint: Annotated[
        Path | None,
        option(f"Where the state of the fit is kept. Without it {CHECKPOINT} in the folder of -o.", metavar="FILE"),
    ] = None
    checkpoint_every: Annotated[
        str,
        option(
            "How often it is written, as time (30s, 5m, 1h) or in steps (100); at the end of stages, too.", metavar="T"
        ),
    ] = CHECKPOINT_EVERY
    resume: Annotated[
        bool, option("Go on where a fit was stopped, and nothing else. The same command again does so too.", "--resume")
    ] = False

    def file(self, run: Run) -> Path:
        """The file of the state."""
        return run.folder / CHECKPOINT if self.checkpoint is None else self.checkpoint

    def before(self, run: Run) -> Path:
        """The state before the newest."""
        return Path(f"{self.file(run)}.previous")

    def check(self) -> None:
        """
        Raises:
            InputError: the time cannot be read.
        """
        from shrinkspeech.fitting.interval import Interval

        Interval.parse(self.checkpoint_every)

    def arguments(self, run: Run) -> dict[str, Any]:
        """Arguments of the library's ``fit`` and ``sweep``."""
        begun = self.file(run).is_file() or self.before(run).is_file()
        return {
            "checkpoint": self.file(run),
            "checkpoint_every": self.checkpoint_every,
            "resume": self.resume or begun,
            "begin_anew": run.overwrite,
        }

    def remove(self, run: Run) -> None:
        """The run is complete."""
        self.file(run).unlink(missing_ok=True)
        self.before(run).unlink(missing_ok=True)


@contextmanager
def stoppable() -> Iterator[None]:
    """A fit that a signal ends says where its state is, and exits as a shell expects it."""
    from shrinkspeech.fitting.interrupt import Stopped

    try:
        yield
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(128 + stopped.signal) from stopped
