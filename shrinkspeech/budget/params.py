"""Parameters, and how many elements tensors have at any widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shrinkspeech.budget.amounts import COUNTS
from shrinkspeech.budget.registry import Quantity, quantity

if TYPE_CHECKING:
    from torch import Tensor

    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.cost import Polynomial
    from shrinkspeech.groups.groups import Groups


@quantity
class Params(Quantity):
    """Elements of the parameters; one under several names counts once. Counted exactly."""

    name, unit, units = "params", "parameters", COUNTS
    per_item = False
    example = "50k, 1.2M"
    help = "Parameters: 25%, 0.25x or 50k."

    def cost(self) -> Polynomial:
        return tensor_elements(self.captured, self.groups, dict(self.captured.graph_module.named_parameters()))


def tensor_elements(captured: Captured, groups: Groups, tensors: Mapping[str, Tensor]) -> Polynomial:
    """Elements of tensors as a polynomial in the widths; one under several names counts once."""
    from shrinkspeech.groups.cost import ONE, ZERO, polynomial

    axes = {
        id(tensor): groups.parameters[name]
        for name, tensor in captured.parameters().items()
        if name in groups.parameters
    }
    total = ZERO
    for tensor in {id(tensor): tensor for tensor in tensors.values()}.values():
        part = ONE
        if id(tensor) in axes:
            for axis in axes[id(tensor)]:
                part = part * polynomial(axis, groups)
        else:
            part = part.scale(tensor.numel())
        total = total + part
    return total
