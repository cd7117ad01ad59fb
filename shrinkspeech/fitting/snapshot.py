"""The state of a fit between two steps: what a checkpoint writes, and what a fit goes back to when numbers run away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from shrinkspeech.fitting.randomness import random_state, set_random_state
from shrinkspeech.fitting.stages.stage import Stage
from shrinkspeech.fitting.trainer import Trainer

SHARE = 0.01
"""Of the steps of a fit: so often its state is kept in memory, as a state to go back to."""


@dataclass(frozen=True)
class Snapshot:
    """All that the next step of a stage depends on; tensors are copies, on the device where they were.

    Attributes:
        stage: its name.
        state: what the stage gave.
    """

    stage: str
    state: Mapping[str, Any]
    trainer: Mapping[str, Any]
    random: Mapping[str, Any]

    @classmethod
    def of(cls, stage: Stage, trainer: Trainer) -> Snapshot:
        """The state of now."""
        return cls(stage.name, copied(stage.state()), trainer.state(), random_state())

    @property
    def step(self) -> int:
        """Steps of the cycle so far."""
        return int(self.trainer["step"])

    @property
    def finite(self) -> bool:
        """Whether no weight, statistic or remembered gradient is NaN. Some may be infinite: masks in buffers are."""
        leaves = [x for x in tree_leaves(self.state) if isinstance(x, Tensor) and x.is_floating_point()]
        return not any(bool(x.isnan().any()) for x in leaves)

    def restore(self, stage: Stage, trainer: Trainer) -> None:
        """Load all of it; the random numbers last, since all that is before may draw."""
        stage.load(copied(self.state))
        trainer.load(self.trainer)
        set_random_state(self.random)

    def go_back(self, stage: Stage, trainer: Trainer) -> None:
        """Load weights and widths; batches and random numbers go on, and the rate is smaller."""
        stage.load(copied(self.state))
        trainer.go_back(self.trainer)


def copied(state: Any) -> Any:
    """The same with tensors of its own."""
    return tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, state)


def is_due(trainer: Trainer) -> bool:
    """Whether this is one of the steps whose state is kept: the same ones in every run."""
    return trainer.step % max(1, round(SHARE * trainer.steps)) == 0
