"""Checkpoints of a fit: everything that the next step depends on, written beside the file and renamed into place.

A resumed fit goes on as if it had never stopped, bit by bit on the CPU, where the recipe yields the same batches again:
those that were used are drawn and thrown away.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shrinkspeech.budget.goal import Goal
from shrinkspeech.errors import InputError
from shrinkspeech.files import replacing
from shrinkspeech.fitting.stages import GatedRun
from shrinkspeech.fitting.trainer import Trainer, to_device
from shrinkspeech.fitting.tune import TunedRun
from shrinkspeech.surgery.part import Part
from shrinkspeech.surgery.ranks import Ranks


class Keeper:
    """Writes the state of a fit to one file every ``every`` steps, and reads it back.

    Args:
        identity: what must be the same for a fit to go on: options, the model's tensors.
    """

    def __init__(self, path: str | Path, every: int, identity: Mapping[str, Any]) -> None:
        self.path, self.every, self.identity = Path(path), max(1, every), dict(identity)

    def save(self, trainer: Trainer, part: Part, **more: Any) -> None:
        """Write the state, whole or not at all."""
        state = {
            "identity": self.identity,
            "stage": trainer.stage,
            "trainer": {
                "step": trainer.step,
                "used": trainer.used,
                "recent": trainer.recent,
                "metrics": trainer.metrics,
            },
            "kept": {name: list(units) for name, units in part.kept.items()},
            "ranks": {name: list(places) for name, places in part.ranks.places.items()},
            "weights": dict(part.captured.graph_module.state_dict()),
            "optimiser": to_device({name: dict(state) for name, state in part.optimiser.items()}, "cpu"),
            "random": _random_state(),
            **more,
        }
        with replacing(self.path) as temporary:
            torch.save(state, temporary)

    def load(self) -> dict[str, Any]:
        """The state that was written last.

        Raises:
            InputError: there is none, it cannot be read, or it is of another fit.
        """
        if not self.path.is_file():
            raise InputError(f"there is no checkpoint {self.path} to resume from")
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            found = state["identity"]
        except Exception as error:  # torch, pickle and zipfile each raise their own
            raise InputError(f"{self.path} is not a checkpoint of a fit") from error
        other = [name for name, value in self.identity.items() if found.get(name) != value]
        if other:
            raise InputError(f"the checkpoint {self.path} is of another fit: it differs in {', '.join(other)}")
        return state


class Watch:
    """Saves a fit as it goes; without a keeper it does nothing.

    Attributes:
        state: what to go on from; None at a fresh start.
        reached: what the objective says of the sliced model.
    """

    def __init__(self, keeper: Keeper | None = None, state: dict[str, Any] | None = None) -> None:
        self.keeper, self.state, self.reached = keeper, state, 0.0

    @classmethod
    def of(cls, path: str | Path | None, every: int, identity: Mapping[str, Any], resume: bool) -> Watch:
        """From the options of a fit.

        Raises:
            InputError: there is nothing to resume from, or it is of another fit.
        """
        if path is None:
            if resume:
                raise InputError("to resume a fit, name its checkpoint file")
            return cls()
        keeper = Keeper(path, every, identity)
        return cls(keeper, keeper.load() if resume else None)

    def gate(self, run: GatedRun, start: float) -> None:
        """After a gated step."""
        if self._due(run.trainer) and self.keeper is not None:
            controller = run.controller
            momentum = {"momentum": controller.momentum, "scale": controller.scale, "price": controller.price}
            fractions = run.model.widths.fractions.detach().cpu()
            self.keeper.save(run.trainer, run.present(), start=start, fractions=fractions, controller=momentum)

    def tune(self, run: TunedRun) -> None:
        """After a step of the sliced model."""
        if self._due(run.trainer) and self.keeper is not None:
            average = to_device(run.average.values if run.average else {}, "cpu")
            self.keeper.save(run.trainer, run.present(), reached=self.reached, average=average)

    def _due(self, trainer: Trainer) -> bool:
        return self.keeper is not None and trainer.step % self.keeper.every == 0


def restored_part(state: Mapping[str, Any], whole: Part) -> Part:
    """The part that was saved: the original sliced to the same units, with the weights of then."""
    units = state["kept"]
    part = whole.slice(units)
    module = part.captured.copy()  # without what a removed branch has left unused
    module.load_state_dict(state["weights"])
    part = replace(part, captured=replace(part.captured, graph_module=module))
    return replace(part, ranks=Ranks(state["ranks"]), optimiser=state["optimiser"])


def restored_run(state: Mapping[str, Any], trainer: Trainer, part: Part, goal: Goal) -> GatedRun:
    """The gated run that was saved."""
    run = GatedRun(trainer, part, goal)
    with torch.no_grad():
        run.model.widths.fractions.copy_(state["fractions"])
    for name, value in state["controller"].items():
        setattr(run.controller, name, value)
    return run


def restore_trainer(state: Mapping[str, Any], trainer: Trainer) -> None:
    """Step, batches and random numbers as they were; call it last, for it sets the random state."""
    while trainer.used < state["trainer"]["used"]:
        trainer.next_batch()
    trainer.stage, trainer.step = state["stage"], state["trainer"]["step"]
    trainer.recent, trainer.metrics = list(state["trainer"]["recent"]), dict(state["trainer"]["metrics"])
    _set_random_state(state["random"])


def _random_state() -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [
            str(kind),
            torch.tensor(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
