"""The checkpoint of a fit: a file that holds all that the next step depends on, written whole or not at all.

It is a dictionary of five entries: ``identity`` (what fit it is of), ``stage`` (the name of the stage), ``state`` (what that
stage gave), ``trainer`` and ``random``. A resumed fit goes on as if it had never stopped, bit by bit on the CPU, where the
recipe yields the same batches again: those that were used are drawn and thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shrinkspeech.errors import InputError
from shrinkspeech.files import replacing
from shrinkspeech.fitting.losses import to_device
from shrinkspeech.fitting.randomness import random_state, set_random_state
from shrinkspeech.fitting.stages.stage import Stage
from shrinkspeech.fitting.trainer import Trainer

ENTRIES = {"identity", "stage", "state", "trainer", "random"}


class Checkpoint:
    """Where a fit is saved, and what it goes on from. Without a path it does neither.

    Args:
        every: optimiser steps from one save to the next; the end of a stage is saved, too.
        identity: what must be the same for a fit to go on: options, names and shapes of the model's tensors.
        resume: whether to go on from what the file holds.

    Raises:
        InputError: there is nothing to resume from, it cannot be read, or it is of another fit.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        every: int = 100,
        identity: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.path, self.every, self.identity = path, max(1, every), dict(identity or {})
        self.saved = self._read() if resume else None

    def left(self, stages: Sequence[type[Stage]]) -> Sequence[type[Stage]]:
        """The stages from the one that was saved to the last; all of them where nothing was."""
        if self.saved is None:
            return stages
        names = [stage.name for stage in stages]
        if self.saved["stage"] not in names:
            raise InputError(
                f"the checkpoint {self.path} was left in a stage '{self.saved['stage']}' that this version does not have: "
                "fit anew, without --resume"
            )
        return stages[names.index(self.saved["stage"]) :]

    def restore(self, stage: Stage, trainer: Trainer) -> bool:
        """Load the stage that was saved, the trainer and the random numbers; false for a stage that was not reached."""
        if self.saved is None or self.saved["stage"] != stage.name:
            return False
        stage.load(self.saved["state"])
        trainer.load(self.saved["trainer"])
        set_random_state(self.saved["random"])  # last, since all that is before may draw
        self.saved = None
        return True

    def save(self, stage: Stage, trainer: Trainer) -> None:
        """Write the file if it is time to, or if the stage is done."""
        if self.path is None or (trainer.step % self.every and not stage.done):
            return
        state = {
            "identity": self.identity,
            "stage": stage.name,
            "state": stage.state(),
            "trainer": trainer.state(),
            "random": random_state(),
        }
        with replacing(self.path) as temporary:
            torch.save(to_device(state, "cpu"), temporary)

    def _read(self) -> dict[str, Any]:
        if self.path is None:
            raise InputError("to resume a fit, name its checkpoint file")
        if not Path(self.path).is_file():
            raise InputError(f"there is no checkpoint {self.path} to resume from")
        try:
            saved: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            complete = saved.keys() >= ENTRIES
        except Exception as error:  # torch, pickle and zipfile each raise their own
            raise InputError(f"{self.path} is not a checkpoint of a fit") from error
        if not complete:
            raise InputError(f"{self.path} is not a checkpoint of a fit")
        other = [name for name, value in self.identity.items() if saved["identity"].get(name) != value]
        if other:
            raise InputError(f"the checkpoint {self.path} is of another fit: it differs in {', '.join(other)}")
        return saved
