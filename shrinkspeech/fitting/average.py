"""The running average of a model's weights, which is what a fit leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class RunningAverage:
    """Of the parameters and buffers of a module, in float32 or wider.

    What does not change stays as it is to the bit; of integers, and of tensors that hold infinite values, the last ones count.

    Args:
        span: time constant of the average, in steps.

    Attributes:
        share: of the present values in each update.
        values: by name; empty before the first update, which takes the module's own.
    """

    def __init__(self, span: float) -> None:
        self.share = 1 - math.exp(-1 / span)
        self.values: dict[str, Tensor] = {}
        self.moving: set[str] = set()

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Move towards the present values."""
        for name, value in module.state_dict().items():
            now = _wide(value)
            if name not in self.values:
                self.values[name] = now.clone()
                if _can_move(now):
                    self.moving.add(name)
            elif name in self.moving:
                self.values[name].lerp_(now, self.share)
            else:
                self.values[name].copy_(now)

    def state(self) -> dict[str, Tensor]:
        """The values by name."""
        return dict(self.values)

    def load(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Go on from the values of another average, of a module on ``device``."""
        self.values = {name: value.to(device, copy=True) for name, value in state.items()}
        self.moving = {name for name, value in self.values.items() if _can_move(value)}


def _can_move(value: Tensor) -> bool:
    """Whether an average of it means something: infinity minus infinity does not."""
    return (value.is_floating_point() or value.is_complex()) and bool(value.isfinite().all())


def _wide(value: Tensor) -> Tensor:
    """In float32 (complex64) where it is narrower."""
    if value.is_complex():
        return value.to(torch.complex64) if value.element_size() < 8 else value
    return value.float() if value.is_floating_point() and value.element_size() < 4 else value
