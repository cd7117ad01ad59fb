"""What a fit descends: the recipe's loss, and the distance to the original's outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.intake import Intake, depends, level_zero, one_number
from shrinkspeech.fitting.processes.sharing import Sharing
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.captured import Captured


class Losses:
    """The task loss, the distance to the original's outputs, or their weighted sum.

    Args:
        distil: weight of the distance beside a task loss.
        device: where the batches and the original go.
        sharing: which rows of a batch this process has.

    Attributes:
        teacher: the original; None where no distance is asked for.
        follows: whether a loss of the recipe was seen to depend on the model.
    """

    def __init__(
        self, original: Captured, recipe: Recipe, distil: float, device: Any, sharing: Sharing | None = None
    ) -> None:
        self.recipe, self.distil, self.device = recipe, distil, device
        self.sharing = sharing or Sharing()
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
        with self.sharing.running():
            outputs = self._run(model, arguments)
        if self.recipe.loss is None:
            return self._distance(outputs, arguments)
        loss = self._own(self.sharing.whole(outputs), batch)
        if self.teacher is not None:
            loss = loss + self.distil * self._distance(outputs, arguments)
        return loss

    def inputs(self, batch: Any, device: Any = None) -> tuple[Any, ...]:
        """The model's arguments in this process's rows of a batch, on another device if one is given."""
        own = self.sharing.own(self.intake(self.recipe.inputs(batch)))
        arguments: tuple[Any, ...] = to_device(own, device or self.device)
        return arguments

    def outputs(self, model: Any, batch: Any) -> Any:
        """What a model gives for all of a batch."""
        arguments = self.inputs(batch)
        with self.sharing.running():
            return self.sharing.whole(self._run(model, arguments))

    def _run(self, model: Any, arguments: tuple[Any, ...]) -> Any:
        """Outputs; in mixed precision those of half precision in float32, as sums over them need it."""
        outputs = model(*arguments)
        return in_float32(outputs) if torch.is_autocast_enabled(torch.device(self.device).type) else outputs

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
        return loss + level_zero(outputs) if trains and not loss.requires_grad else loss

    def signals(self, outputs: Any) -> list[Tensor]:
        """The real numbers that a model returns beside its states, which are as wide as it is itself."""
        found = [x for i, x in enumerate(tree_leaves(outputs)) if i not in self.given_back]
        return [x for x in found if isinstance(x, Tensor) and x.is_floating_point()]

    def _distance(self, outputs: Any, arguments: tuple[Any, ...]) -> Tensor:
        """Mean square difference to the original's outputs, relative to their variance."""
        assert self.teacher is not None
        with torch.no_grad(), self.sharing.running():
            wanted = self._run(self.teacher, arguments)
        parts = self.sharing.distances(outputs, wanted, self.given_back)
        if not parts:
            raise RecipeError(
                "the model has no real-valued output to keep near the original's: give --distil 0 and a loss"
            )
        return torch.stack(parts).mean()


def in_float32(outputs: Any) -> Any:
    """The same without half precision."""
    half = (torch.float16, torch.bfloat16)
    return tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.dtype in half else x, outputs)


def to_device(value: Any, device: Any) -> Any:
    """Every tensor inside ``value`` on ``device``."""
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, value)
