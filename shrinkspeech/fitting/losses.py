"""What a fit descends: the recipe's loss, and the distance to the original's outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.distance import distance
from shrinkspeech.fitting.intake import Intake, depends, nothing, one_number
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.captured import Captured


class Losses:
    """The task loss, the distance to the original's outputs, or their weighted sum.

    Args:
        distil: weight of the distance beside a task loss.
        device: where the batches and the original go.

    Attributes:
        teacher: the original; None where no distance is asked for.
        follows: whether a loss of the recipe was seen to depend on the model.
    """

    def __init__(self, original: Captured, recipe: Recipe, distil: float, device: Any) -> None:
        self.recipe, self.distil, self.device = recipe, distil, device
        self.intake = Intake(original, recipe.name)
        self.given_back = {state.output for state in original.states}
        self.teacher: nn.Module | None = None
        if recipe.loss is None or distil > 0:
            self.teacher = original.copy().requires_grad_(False).to(device)
        self.follows = False

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """The loss of a model on a batch.

        Raises:
            RecipeError: it is not a real number, or the first does not depend on the model.
        """
        arguments = self.inputs(batch)
        outputs = model(*arguments)
        if self.recipe.loss is None:
            return self._distance(outputs, arguments)
        loss = self._own(outputs, batch)
        if self.teacher is not None:
            loss = loss + self.distil * self._distance(outputs, arguments)
        return loss

    def inputs(self, batch: Any, device: Any = None) -> tuple[Any, ...]:
        """The model's arguments in a batch, on another device if one is given."""
        arguments: tuple[Any, ...] = to_device(self.intake(self.recipe.inputs(batch)), device or self.device)
        return arguments

    def _own(self, outputs: Any, batch: Any) -> Tensor:
        """The recipe's loss. The first must follow the outputs; a later one may be constant, of a batch without labels."""
        assert self.recipe.loss is not None
        trains = torch.is_grad_enabled()
        loss = one_number(self.recipe.loss(outputs, to_device(batch, self.device)), self.recipe.name)
        if trains and not self.follows:
            self.follows = depends(loss, outputs)
            if not self.follows:
                raise RecipeError(
                    f"the loss of '{self.recipe.name}' does not depend on the model's outputs: compute it from them with "
                    "torch, without detach() or numpy"
                )
        return loss + nothing(outputs) if trains and not loss.requires_grad else loss

    def signals(self, outputs: Any) -> list[Tensor]:
        """The real numbers that a model returns beside its states, which are as wide as it is itself."""
        found = [x for i, x in enumerate(tree_leaves(outputs)) if i not in self.given_back]
        return [x for x in found if isinstance(x, Tensor) and x.is_floating_point()]

    def _distance(self, outputs: Any, arguments: tuple[Any, ...]) -> Tensor:
        """Mean square difference to the original's outputs, relative to their variance."""
        assert self.teacher is not None
        with torch.no_grad():
            wanted = self.teacher(*arguments)
        parts = [distance(x, y) for x, y in zip(self.signals(outputs), self.signals(wanted), strict=True)]
        if not parts:
            raise RecipeError(
                "the model has no real-valued output to keep near the original's: give --distil 0 and a loss"
            )
        return torch.stack(parts).mean()


def to_device(value: Any, device: Any) -> Any:
    """Every tensor inside ``value`` on ``device``."""
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, value)
