"""Moving widths at a given cost: gradient steps along the surface F(K) = B, in the logarithm of the widths.

Each step takes the loss gradient per relative change of a width, removes its part along the cost gradient (that part
is the price λ of a FLOP, found anew in every step), moves, and shifts all widths by one factor so that the cost is
exactly B. The budget is therefore held without a penalty strength.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.widths import rescale
from shrinkspeech.groups.cost import DifferentiableCost
from shrinkspeech.surgery.gates import Widths


class WidthController:
    """Holds the momentum of the width gradient.

    Args:
        goal: limits of ``widths``, and what they cost.
        rate: root mean square change of log width in one step.
        memory: share of the old gradient that is kept in each step.
    """

    def __init__(self, widths: Widths, goal: Goal, rate: float, memory: float = 0.9) -> None:
        self.widths, self.goal, self.rate, self.memory = widths, goal, rate, memory
        self.cost = DifferentiableCost(goal.cost, widths.names)
        self.momentum = torch.zeros(len(widths.names), dtype=torch.float64)
        self.scale = 0.0
        self.price = 0.0

    def state(self) -> dict[str, Any]:
        """All that the next step depends on beside the widths and their gradient."""
        return {"momentum": self.momentum, "scale": self.scale, "price": self.price}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where another controller, of the same groups, stopped."""
        self.momentum, self.scale, self.price = state["momentum"], state["scale"], state["price"]

    def step(self, budget: float) -> float:
        """Move the widths by their present gradient and set the cost to ``budget``; returns the cost.

        A gradient that is not finite counts as none.
        """
        real = self.widths.real.detach().cpu()
        gradient = self.widths.fractions.grad
        if gradient is not None and bool(gradient.isfinite().all()):
            relative = gradient.detach().cpu() * self.widths.fractions.detach().cpu()
            self.momentum = self.memory * self.momentum + (1 - self.memory) * relative
        logs = real.clamp_min(1e-9).log() - self._direction(real)
        found = rescale(dict(zip(self.widths.names, logs.tolist(), strict=True)), self.goal, budget)
        self.widths.set(found)
        self.widths.fractions.grad = None
        return self.goal.at(found)

    def _direction(self, real: Tensor) -> Tensor:
        """The step in log width: the loss gradient without its part along the cost gradient."""
        logs = real.log().requires_grad_()
        (slope,) = torch.autograd.grad(self.cost(logs.exp()).log(), logs)
        free = (real > self.widths.lowest.cpu() + 1e-6) & (real < self.widths.sizes.cpu() - 1e-6)
        if free.sum() < 2:
            free = torch.ones_like(free)
        slope = slope * free
        self.price = float(self.momentum @ slope / (slope @ slope).clamp_min(1e-12))
        direction = (self.momentum - self.price * slope) * free
        size = float(direction.square().mean().sqrt())
        if size == 0.0:
            return direction
        self.scale = max(0.95 * self.scale, size)
        return (self.rate * direction / self.scale).clamp(-3 * self.rate, 3 * self.rate)


def between(start: float, end: float, progress: float) -> float:
    """Geometric interpolation, ``progress`` clipped to [0, 1]."""
    progress = min(max(progress, 0.0), 1.0)
    return math.exp((1 - progress) * math.log(start) + progress * math.log(end))
