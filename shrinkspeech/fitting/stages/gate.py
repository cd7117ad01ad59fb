"""Gate: widths are real numbers that gradient descent moves, while their cost falls to the budget and then stays there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from shrinkspeech.fitting.controller import WidthController, between
from shrinkspeech.fitting.stages.stage import Draft, Job, Stage
from shrinkspeech.fitting.trainer import optimiser_state
from shrinkspeech.surgery.insert import GatedModule
from shrinkspeech.surgery.part import Part

GROWTH = 0.1
"""A group keeps this share of its present units beyond those that are open, so that it may widen again."""


class Gate(Stage):
    """A fall from the first cost to the target, geometric in the steps, then a trade of units at constant cost."""

    name = "gate"

    start: float
    gates: Gates

    def begin(self, draft: Draft) -> None:
        self.start = draft.cost
        self.gates = Gates(self.job, draft.part)

    @property
    def done(self) -> bool:
        return self.job.trainer.step >= self.job.trainer.gated_steps

    def step(self) -> None:
        trainer, target = self.job.trainer, self.job.goal.target
        progress = (trainer.step + 1) / trainer.gated_steps
        fall = progress / max(1 - trainer.settings.hold_share, 1e-9)
        window = between(trainer.settings.window, 1.0, progress)
        self.gates.step(between(self.start, target, fall), window)
        self.gates = self.gates.reslice(window)

    def result(self) -> Draft:
        widths = self.gates.real
        return Draft(self.gates.present(), widths, self.job.goal.at(widths))

    def state(self) -> dict[str, Any]:
        return {"start": self.start, "part": self.gates.present().state(), "gates": self.gates.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.start = state["start"]
        self.gates = Gates(self.job, self.job.whole.restore(state["part"]))
        self.gates.load(state["gates"])


class Gates:
    """A part with gates, the optimiser of its weights, and the controller of its widths.

    Args:
        real: widths to start with; every unit is open where none are given.
    """

    def __init__(self, job: Job, part: Part, real: Mapping[str, float] | None = None) -> None:
        self.job, self.part, trainer = job, part, job.trainer
        self.model = GatedModule(part.captured, part.groups, part.ranks).eval()
        self.model.widths.keep_power = trainer.settings.keep_power
        self.names = self.model.widths.names
        if real is not None:
            self.model.widths.set({name: real[name] for name in self.names})
        self.weights = [
            p for name, p in self.model.named_parameters() if p.requires_grad and name != "widths.fractions"
        ]
        self.prepared, self.optimiser = trainer.prepare(self.model, self.weights, part.optimiser)
        goal = job.goal.within(part.widths).among(self.names)
        self.controller = WidthController(self.model.widths, goal, trainer.settings.width_rate)

    @property
    def real(self) -> dict[str, float]:
        """The width, in units, of every group that could shrink in the original."""
        moving = dict(zip(self.names, self.model.widths.real.tolist(), strict=True))
        return {**self.part.widths, **moving}

    def step(self, budget: float, window: float) -> None:
        """One step of the weights, then one of the widths.

        Args:
            budget: what the widths cost afterwards, in the unit of the goal.
            window: width of the noisy boundary, in units.
        """
        self.model.widths.window = window
        standing = self.job.standing(Gate.name, self.real)
        self.job.trainer.descend(self.prepared, self.optimiser, self.weights, standing)
        if self.names:
            self.controller.step(budget)
            self.job.trainer.team.take_from_first(self.model.widths.fractions)

    def reach(self, window: float) -> dict[str, int]:
        """Units that each group may still come to use: those that are open, the boundary, and room to widen again."""
        real, multiple = self.real, self.job.goal.step

        def units(name: str, size: int) -> int:
            wanted = real[name] + max(2 * window, GROWTH * size)
            return min(size, math.ceil(wanted / multiple[name]) * multiple[name])

        return {name: units(name, size) if name in self.names else size for name, size in self.part.widths.items()}

    def reslice(self, window: float) -> Gates:
        """These gates on a graph without the units that are closed for good, if that is enough cheaper; else themselves.

        Window and room leave every keep, and so outputs, gradients and noise, as they were.
        """
        widths, share, flops = self.reach(window), self.job.trainer.settings.reslice, self.job.goal.flops
        if not share or flops.at(widths) >= share * flops.at(self.part.widths):
            return self
        part = self.present()
        gates = Gates(self.job, part.slice(part.ranks.best(widths)), self.real)
        gates.model.widths.window = self.model.widths.window
        gates.controller.load(self.controller.state())
        return gates

    def present(self) -> Part:
        """The part, unsliced, with the weights and the optimiser's state of now."""
        return replace(self.part, captured=self.model.captured(), optimiser=optimiser_state(self.model, self.optimiser))

    def state(self) -> dict[str, Any]:
        """What there is beside the part: widths as shares of the groups' sizes, and the controller's memory."""
        return {"fractions": self.model.widths.fractions.detach(), "controller": self.controller.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of gates on the same part."""
        with torch.no_grad():
            self.model.widths.fractions.copy_(state["fractions"])
        self.controller.load(state["controller"])
