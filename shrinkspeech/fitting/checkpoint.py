"""The checkpoint of a fit: a file that holds all that the next step depends on, written whole or not at all.

It is a dictionary (``ENTRIES``): ``identity`` says what fit it is of; ``stage``, ``state``, ``trainer`` and ``random`` are a
``Snapshot``; ``good`` is an earlier one to go back to; ``before`` is what was known before these stages began, and ``duration``
the time so far in s. The file before lies beside it, for the case that the newest is damaged. A resumed fit goes on as if it
had never stopped, bit by bit on the CPU, where the recipe yields the same batches again: those that were used are drawn and
thrown away.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from shrinkspeech.defaults import CHECKPOINT_EVERY
from shrinkspeech.errors import InputError, NotFiniteError, ProcessError
from shrinkspeech.files import replacing, seal
from shrinkspeech.fitting.identity import differences
from shrinkspeech.fitting.interrupt import Interrupt, Stopped
from shrinkspeech.fitting.interval import Interval
from shrinkspeech.fitting.losses import to_device
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.snapshot import Snapshot, is_due
from shrinkspeech.fitting.stages.stage import SingleStep, Stage
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.loading.zips import fault_of

ENTRIES = {"identity", "stage", "state", "trainer", "random", "good", "before", "duration"}

MOST_RETURNS = 2
"""So often a fit goes back to the last good state; after that, numbers that are not finite stop it."""

WORTH = 10.0
"""A fit that fails writes its last good state if the one on disk is older than this, in s."""

log = logging.getLogger("shrinkspeech.fitting")


def previous(path: str | Path) -> Path:
    """Where the checkpoint before the newest one is."""
    return Path(f"{path}.previous")


class Checkpoint:
    """Where a fit is saved, what it goes on from, and what it goes back to. Without a path nothing is written.

    Args:
        every: steps, or a time such as ``5m``, from one save to the next; the end of a stage is saved, too.
        identity: what must be the same for a fit to go on.
        resume: whether to go on from what the file holds.
        anew: where that is of another fit, begin anew instead of refusing.
        team: the processes of the fit: the first writes the file, and a signal to any ends all after the same step.

    Attributes:
        before: of the file that the fit goes on from; to be filled before the stages begin otherwise.
        good: the last state in memory whose numbers are finite.

    Raises:
        InputError: there is nothing to resume from, it cannot be read, or it is of another fit.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        every: int | str = CHECKPOINT_EVERY,
        identity: Mapping[str, Any] | None = None,
        resume: bool = False,
        anew: bool = False,
        team: Team | None = None,
    ) -> None:
        self.path, self.every, self.identity = path, Interval.parse(every), dict(identity or {})
        self.team = team or Team()
        self.interrupt = Interrupt(patient=not self.team.alone)
        self.good: Snapshot | None = None
        self._written: Snapshot | None = None
        self._told: set[str] = set()
        self._sound = False
        """Whether the file is one that was read or written here: then it stays, as the one before, when the next is written."""
        self._saved = self._read(anew) if resume else None
        self._refuse_others()
        self._anew = self._saved is None
        """Whether what lies there is of another fit: it goes, once there is something in its place."""
        saved = self._saved or {"duration": 0.0, "before": {}}
        self.before: dict[str, Any] = dict(saved["before"])
        self._earlier = float(saved["duration"])
        self._started = self._last = time.monotonic()

    def _refuse_others(self) -> None:
        """
        Raises:
            ProcessError: the processes have read different files.
        """
        own = None if self._saved is None else (self._saved["stage"], self._saved["trainer"]["step"])
        if len(set(self.team.all(own))) > 1:
            raise ProcessError(
                f"not every process reads the same checkpoint {self.path}: put it where all machines see it"
            )

    # -- going on ---------------------------------------------------------------------------------------------------

    def watching(self) -> AbstractContextManager[None]:
        """Around a fit: signals end it between two steps, if it is written at all."""
        return nullcontext() if self.path is None else self.interrupt.caught()

    @property
    def resumed(self) -> bool:
        """Whether a state waits to be restored."""
        return self._saved is not None

    def left(self, stages: Sequence[type[Stage]]) -> Sequence[type[Stage]]:
        """The stages from the one that was saved to the last; all of them where nothing was."""
        if self._saved is None:
            return stages
        names = [stage.name for stage in stages]
        if self._saved["stage"] not in names:
            raise InputError(
                f"the checkpoint {self.path} was left in a stage '{self._saved['stage']}' that this version does not have: "
                "fit anew, without --resume"
            )
        return stages[names.index(self._saved["stage"]) :]

    def restore(self, stage: Stage, trainer: Trainer) -> bool:
        """Load the stage that was saved, the trainer and the random numbers; false for a stage that was not reached."""
        if self._saved is None or self._saved["stage"] != stage.name:
            return False
        saved, self._saved = self._saved, None
        now = Snapshot(saved["stage"], saved["state"], saved["trainer"], saved["random"])
        now.restore(stage, trainer)
        log.warning("going on from %s, at step %d of %d (%s)", self.path, trainer.step, trainer.steps, stage.name)
        self.good = now if saved["good"] is None else Snapshot(**saved["good"])
        return True

    def begin(self, stage: Stage, trainer: Trainer) -> None:
        """Remember the state that a stage of several steps begins with, unless it goes on from a checkpoint."""
        if not isinstance(stage, SingleStep) and (self.good is None or self.good.stage != stage.name):
            self.good = Snapshot.of(stage, trainer)

    # -- step by step -----------------------------------------------------------------------------------------------

    def running(self, stage: Stage) -> AbstractContextManager[None]:
        """Around a step: a signal waits for its end, unless it is the only one of its stage, which may be long."""
        return nullcontext() if isinstance(stage, SingleStep) else self.interrupt.step()

    def save(self, stage: Stage, trainer: Trainer) -> None:
        """After a step: keep the state in memory and write the file if it is time to, or if the stage is done.

        Raises:
            Stopped: a signal has asked for it; the state is written.
        """
        asked = self.team.most(self.interrupt.received or 0) or None
        kept = stage.done or is_due(trainer)
        wanted = self.path is not None and (
            stage.done or asked is not None or self.every.has_passed(trainer.step, time.monotonic() - self._last)
        )
        if kept or wanted:
            now = Snapshot.of(stage, trainer)
            if kept and now.finite and not trainer.in_a_row:
                self.good = now
            if wanted and (last := now if now.finite else self.good) is not None:
                self._write(last)
        if asked is not None:
            raise Stopped(asked, self.where_it_stopped(asked, stage, trainer))

    def go_back(self, stage: Stage, trainer: Trainer, error: NotFiniteError) -> None:
        """To the last good state, with half the learning rate.

        Raises:
            NotFiniteError: it has done so too often.
        """
        if self.good is None or trainer.returns >= MOST_RETURNS:
            raise error
        log.warning("%s; back to step %d with half the learning rate", error, self.good.step)
        self.good.go_back(stage, trainer)

    def rescue(self) -> None:
        """Write the last good state, if it would be missed: the fit is about to end before its time."""
        if self.path is not None and self.good is not None and time.monotonic() - self._last > WORTH:
            self._write(self.good)

    def elapsed(self) -> float:
        """Time that the fit has taken so far, that of the runs before included, in s."""
        return self._earlier + time.monotonic() - self._started

    def where_it_stopped(self, number: int, stage: Stage, trainer: Trainer) -> str:
        where = f"{Stopped(number)} at step {trainer.step} of {trainer.steps} ({stage.name})"
        return (
            where
            if self.path is None
            else f"{where}: its state is in {self.path}, and the same command goes on from it"
        )

    # -- files ------------------------------------------------------------------------------------------------------

    def _write(self, now: Snapshot) -> None:
        """Write a state; a disk that is full or gone is told once, and the fit goes on without."""
        assert self.path is not None
        self._last = time.monotonic()
        if self._written is now or not self.team.leads:
            return
        good = None if self.good is None or self.good is now or self.good.stage != now.stage else _entries(self.good)
        state = {
            "identity": self.identity,
            "good": good,
            "before": self.before,
            "duration": self.elapsed(),
            **_entries(now),
        }
        try:
            with replacing(self.path) as temporary:
                with temporary.open("wb") as file:
                    torch.save(to_device(state, "cpu"), file)
                seal(temporary)
                if self._sound and Path(self.path).is_file():
                    os.replace(self.path, previous(self.path))
            if self._anew:
                previous(self.path).unlink(missing_ok=True)
            self._written, self._sound, self._anew = now, True, False
        except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
            self._tell(error)
        self._last = time.monotonic()

    def _tell(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:200]
        if reason not in self._told:
            self._told.add(reason)
            text = "cannot write the checkpoint %s (%s): the fit goes on, and would be lost if it were stopped"
            log.warning(text, self.path, reason)

    def _read(self, anew: bool) -> dict[str, Any] | None:
        if self.path is None:
            raise InputError("to resume a fit, name its checkpoint file")
        files = [file for file in (Path(self.path), previous(self.path)) if file.is_file()]
        if not files:
            raise InputError(f"there is no checkpoint {self.path} to resume from")
        saved = None
        for file in files:
            saved = read_checkpoint(file)
            if saved is not None:
                break
            if file is not files[-1]:
                log.warning("%s is damaged, or no checkpoint of a fit: the one before is taken", file)
        self._sound = saved is not None and file == Path(self.path)
        if saved is None:
            raise InputError(f"{self.path} is not a checkpoint of a fit, or damaged: fit anew, with --overwrite")
        other = differences(self.identity, saved["identity"])
        if not other:
            return saved
        text = f"the checkpoint {self.path} is of another fit: it differs in {'; '.join(other)}"
        if not anew:
            raise InputError(f"{text}: give what it was given, or --overwrite to begin anew")
        log.warning("%s: this one begins anew", text)
        self._sound = False
        return None


def _entries(snapshot: Snapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in ("stage", "state", "trainer", "random")}


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds; None where it is damaged or none."""
    try:
        if fault_of(path):
            return None
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return saved if saved.keys() >= ENTRIES else None
    except Exception:  # torch, pickle and zipfile each raise their own
        return None
