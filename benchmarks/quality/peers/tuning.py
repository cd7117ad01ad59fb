"""What all methods share: batches, gradients on calibration batches, and one way of fine-tuning."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.fitting.randomness import seed_everything
from shrinkspeech.fitting.recipe import first_of
from shrinkspeech.fitting.settings import Settings

CALIBRATION = Settings().calibration
"""Batches for gradients, as many as a fit takes for its scores."""

Hook = Callable[[int, float], None]
"""Called with the number of the step and the learning rate."""


class Unsupported(RuntimeError):
    """A method cannot shrink this model to this target; the message says why."""


class Data:
    """Endless training batches of a recipe, from a seed; one iterator for all phases of a method."""

    def __init__(self, recipe: Any, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        self.iterator = self._endless()
        seed_everything(seed)

    def _endless(self) -> Iterator[Any]:
        function = self.recipe.train_batches
        seeded = bool(inspect.signature(function).parameters)
        while True:
            yield from function(self.seed) if seeded else function()

    def next(self) -> Any:
        return next(self.iterator)

    def arguments(self, batch: Any) -> tuple[Any, ...]:
        """What of a batch the model takes."""
        inputs = getattr(self.recipe, "inputs", None) or first_of
        found = inputs(batch)
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The task loss of a model on a batch, as a number."""
        return self.recipe.loss(model(*self.arguments(batch)), batch)


def gradients(model: nn.Module, data: Data, batches: list[Any]) -> None:
    """Leave in every parameter's ``grad`` the gradient summed over the batches, in eval mode."""
    model.eval()
    model.zero_grad()
    for batch in batches:
        data.loss(model, batch).backward()


def schedule(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak: a linear rise, then half a cosine, as in a fit."""
    done, rise = step / max(steps, 1), Settings().warm_up
    if done < rise:
        return 0.1 + 0.9 * done / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


def finetune(
    model: nn.Module,
    data: Data,
    steps: int,
    rate: float,
    first: int = 0,
    last: int | None = None,
    weight_decay: float | None = None,
    before: Hook = lambda step, rate: None,
    after: Hook = lambda step, rate: None,
) -> nn.Module:
    """Train a model with AdamW on one learning-rate cycle; returns it in eval mode.

    Args:
        steps: length of the cycle.
        rate: peak learning rate.
        first: step of the cycle to begin with, where a method interrupts it.
        last: step of the cycle to stop before; its end if not given.
        weight_decay: another one than in a fit.
        before: called between the gradients and the optimiser's step.
        after: called after the optimiser's step.
    """
    settings = Settings()
    weights = [p for p in model.parameters() if p.requires_grad]
    decay = settings.weight_decay if weight_decay is None else weight_decay
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
    model.train()
    for step in range(first, steps if last is None else last):
        now = rate * schedule(step, steps)
        for group in optimiser.param_groups:
            group["lr"] = now
        loss = data.loss(model, data.next())
        if not math.isfinite(float(loss.detach())):
            raise RuntimeError(f"the loss is {float(loss.detach())} at step {step}")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, settings.clip)
        before(step, now)
        optimiser.step()
        after(step, now)
    model.zero_grad()
    return model.eval()
