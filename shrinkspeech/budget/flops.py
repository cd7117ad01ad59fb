"""FLOP/s: what the contractions of a model cost for each second of audio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shrinkspeech.budget.amounts import COUNTS
from shrinkspeech.budget.registry import Quantity, quantity

if TYPE_CHECKING:
    from shrinkspeech.groups.cost import Polynomial


@quantity
class Flops(Quantity):
    """Floating-point operations per second of audio, 2 × multiply-accumulates; counted exactly."""

    name, unit, units = "flops", "FLOP/s", COUNTS
    example = "600k, 1.2M"
    help = "FLOP per second of audio: 25%, 0.25x, 600k or 1.2M."

    def cost(self) -> Polynomial:
        from shrinkspeech.groups.cost import count

        return count(self.captured, self.groups, self.seconds).total
