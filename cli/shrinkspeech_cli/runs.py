"""The folder that a fit or a sweep writes: whether it may, whether there is room, and that nobody else does."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from shrinkspeech import processes
from shrinkspeech_cli.options import option
from shrinkspeech_cli.states import Checkpoint
from shrinkspeech_cli.writing import NAMES

if TYPE_CHECKING:
    from shrinkspeech.graph.captured import Captured

LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """The folder that a fit writes."""

    names: ClassVar[Sequence[str]] = NAMES

    output: Annotated[
        Path, option("Folder to write the small model to.", "--output", "-o", metavar="RUN", show_default=False)
    ]
    overwrite: Annotated[
        bool, option("Write into a RUN that is there already; what others have put there stays.", "--overwrite")
    ] = False

    @property
    def folder(self) -> Path:
        """Where links lead."""
        return self.output.resolve()

    def check(self, state: Checkpoint) -> None:
        """Refuse a folder that cannot be written, or that holds something else than the state of a fit.

        Raises:
            InputError: which, and the way out.
        """
        from shrinkspeech.errors import InputError

        if processes.rank():
            return
        if self.folder.exists() and not self.folder.is_dir():
            kind = "a file" if self.folder.is_file() else "a device or the like"
            raise InputError(f"{self.output} is {kind}: give a folder to -o")
        there = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise InputError(f"cannot write to {there}: give another folder to -o")
        if self.folder.is_dir():
            self._check_content(state)

    def _check_content(self, state: Checkpoint) -> None:
        from shrinkspeech.errors import InputError
        from shrinkspeech.loading.sums import SUMS

        complete, begun = (self.folder / SUMS).is_file(), state.file(self).is_file() or state.before(self).is_file()
        if begun or not _content(self.folder):
            return
        if complete and state.resume:
            raise InputError(f"{self.output} is complete: there is nothing to go on with; --overwrite fits anew")
        if not self.overwrite:
            kind = "holds a run that is complete" if complete else "is not empty"
            raise InputError(f"{self.output} {kind}: give another folder to -o, or --overwrite")
        foreign = [name for name in self.names if not complete and (self.folder / name).exists()]
        if foreign:
            raise InputError(
                f"{self.output / foreign[0]} is of nobody's run, as there is no {SUMS} beside it: move it away, or give "
                "another folder to -o"
            )

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Inside, the folder is there and nobody else fits into it; afterwards it is gone if it is empty.

        Raises:
            InputError: somebody does.
        """
        if processes.rank():  # the first one claims it for all
            yield
            return
        from filelock import FileLock, Timeout

        from shrinkspeech.errors import InputError
        from shrinkspeech.files import TEMPORARY

        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"another fit is writing to {self.output}: wait until it ends, or give another folder to -o"
            ) from error
        try:
            for left in self.folder.iterdir():
                if TEMPORARY.fullmatch(left.name):
                    left.unlink()
            yield
        finally:
            (self.folder / LOCK).unlink(missing_ok=True)
            lock.release()
            if made and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def reserve(self, captured: Captured) -> None:
        """Refuse a folder that has no room for the run, before hours have gone into it.

        The run is at most as large as the original, twice; its state at most ten times.

        Raises:
            InputError: the disk is full, or files may not be so large.
        """
        from shrinkspeech.budget.amounts import human
        from shrinkspeech.errors import InputError

        if processes.rank():
            return
        size = sum(tensor.numel() * tensor.element_size() for tensor in captured.parameters().values())
        free = shutil.disk_usage(self.folder).free
        if free < 2 * size:
            raise InputError(
                f"{self.output} has room for {human(free)}B, and the run may need {human(2 * size)}B: make room, or give "
                "another folder to -o"
            )
        try:
            _reserved(self.folder / f".{'0' * 16}.{os.getpid()}.tmp", size)
        except OSError as error:
            raise InputError(
                f"cannot write {human(size)}B to {self.output} ({error.strerror}): give another folder to -o"
            ) from error
        if free < 12 * size:
            typer.echo(
                f"warning: {self.output} has room for {human(free)}B, and the state of the fit may need {human(10 * size)}B",
                err=True,
            )


@dataclass(frozen=True)
class Runs(Run):
    """The folder that a sweep writes."""

    names: ClassVar[Sequence[str]] = ("sweep.csv", "sweep.png")

    output: Annotated[
        Path,
        option("Folder to write a RUN for each budget to.", "--output", "-o", metavar="DIR", show_default=False),
    ]
    overwrite: Annotated[
        bool, option("Write into a DIR that is there already; what others have put there stays.", "--overwrite")
    ] = False


def _content(folder: Path) -> list[str]:
    """What is in a folder, beside what a fit that was killed has left of a file or of its lock."""
    from shrinkspeech.files import TEMPORARY

    return [path.name for path in folder.iterdir() if path.name != LOCK and not TEMPORARY.fullmatch(path.name)]


def _reserved(probe: Path, size: int) -> None:
    """Whether a file may be as large; some file systems cannot say.

    Raises:
        OSError: it may not.
    """
    try:
        with probe.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size + 1)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    finally:
        probe.unlink(missing_ok=True)
