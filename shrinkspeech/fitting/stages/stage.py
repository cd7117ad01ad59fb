"""What a stage of a fit is: it begins with a draft of the small model, works on it step by step, and leaves another draft.

A stage holds all that its next step depends on, and nobody else does: ``state`` gives it away and ``load`` takes it back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from shrinkspeech.budget.goal import Goal
from shrinkspeech.fitting.settings import Standing
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.surgery.part import Part


@dataclass(frozen=True)
class Job:
    """What all stages of one fit share.

    Attributes:
        whole: what the fit starts from: the original; in a sweep, what the budget before has left.
        seed: of the random projections that stand in for a loss where there are no labels.
    """

    trainer: Trainer
    whole: Part
    goal: Goal
    seed: int

    def draft(self) -> Draft:
        """What the first stage begins with."""
        return Draft(self.whole, self.whole.widths, self.goal.at(self.whole.widths))

    def standing(self, stage: str, widths: Mapping[str, float]) -> Standing:
        """What the user is told with each step of a stage at these widths (in units, real or whole)."""
        goal = self.goal
        return Standing(stage, goal.at(widths), goal.target, goal.quantity, goal.flops.at(widths))


@dataclass(frozen=True)
class Draft:
    """The small model on its way, as one stage leaves it to the next.

    Attributes:
        part: the graph, which may hold more units than ``widths`` says.
        widths: units of every group that could shrink in the original, as real numbers; whole ones from the repair on.
        cost: what the budget limits, at these widths: measured if the repair has measured it, else by the polynomial.
    """

    part: Part
    widths: Mapping[str, float]
    cost: float

    def state(self) -> dict[str, Any]:
        return {"part": self.part.state(), "widths": dict(self.widths), "cost": self.cost}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], whole: Part) -> Draft:
        return cls(whole.restore(state["part"]), state["widths"], state["cost"])


class Stage(ABC):
    """One stage of a fit. After ``begin`` or ``load``, ``step`` is called until it is ``done``; then it has a ``result``.

    Attributes:
        name: what the user reads, and how a checkpoint finds the stage again.
    """

    name: ClassVar[str]

    def __init__(self, job: Job) -> None:
        self.job = job

    @abstractmethod
    def begin(self, draft: Draft) -> None:
        """Start from what the stage before has left."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether no step is left."""

    @abstractmethod
    def step(self) -> None:
        """Work on the draft."""

    @abstractmethod
    def result(self) -> Draft:
        """What the next stage begins with; asked once, when the stage is done."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that the next step depends on: dictionaries and lists of numbers, strings and tensors on any device."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the place of ``begin``; its tensors are on the CPU."""


class SingleStep(Stage):
    """A stage of one step, which can be resumed at its end alone."""

    def begin(self, draft: Draft) -> None:
        self._draft, self._done = draft, False

    @property
    def done(self) -> bool:
        return self._done

    def step(self) -> None:
        self._draft, self._done = self.improve(self._draft), True

    @abstractmethod
    def improve(self, draft: Draft) -> Draft:
        """The whole work of the stage."""

    def result(self) -> Draft:
        return self._draft

    def state(self) -> dict[str, Any]:
        return {"draft": self._draft.state(), "done": self._done}

    def load(self, state: Mapping[str, Any]) -> None:
        self._draft, self._done = Draft.from_state(state["draft"], self.job.whole), state["done"]
