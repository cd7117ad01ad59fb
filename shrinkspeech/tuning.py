"""The last stage of a fit: the sliced model is fine-tuned, and a running average of its weights is what remains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.optim.swa_utils import AveragedModel

from shrinkspeech.parts import Part
from shrinkspeech.training import Trainer, moments_of


class TunedRun:
    """A sliced part, its optimiser, and the running average of its weights and buffers.

    Args:
        average: state of the average in a fit that goes on.
    """

    def __init__(self, trainer: Trainer, part: Part, average: Mapping[str, Tensor] | None = None) -> None:
        self.trainer, self.part = trainer, part
        trainer.stage = "tune"
        module = part.captured.module()
        self.weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.prepared, self.optimiser = trainer.prepare(module, self.weights, part.moments)
        span = trainer.settings.average * (trainer.steps - trainer.gated_steps)
        self.average = AveragedModel(self.module, multi_avg_fn=running(span), use_buffers=True) if span > 0 else None
        if self.average is not None and average is not None:
            self.average.load_state_dict(average)

    @property
    def module(self) -> GraphModule:
        """The graph that is trained, without what Accelerate puts around it."""
        module: GraphModule = self.trainer.accelerator.unwrap_model(self.prepared)
        return module

    def step(self) -> None:
        """One optimiser step."""
        self.trainer.descend(self.prepared, self.optimiser, self.weights)
        if self.average is not None:
            self.average.update_parameters(self.module)

    def present(self) -> Part:
        """The part with the weights and moments of now."""
        captured = replace(self.part.captured, graph_module=self.module)
        return replace(self.part, captured=captured, moments=moments_of(self.module, self.optimiser))

    def state(self) -> dict[str, Tensor]:
        """What the average needs to go on."""
        return {} if self.average is None else dict(self.average.state_dict())

    def final(self) -> Part:
        """The part with averaged weights, in eval mode on the CPU."""
        if self.average is not None:
            self.module.load_state_dict(self.average.module.state_dict())
        part = self.present()
        part.captured.graph_module.cpu().eval()
        return replace(part, moments={})


def tune(run: TunedRun, after: Callable[[TunedRun], None]) -> Part:
    """Fine-tune for the steps that are left; ``after`` is called after each."""
    while run.trainer.step < run.trainer.steps:
        run.step()
        after(run)
    return run.final()


def running(span: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """An update of running averages with a time constant of ``span`` steps, for ``AveragedModel``.

    What does not change stays as it is to the bit, infinite entries of constants too; integers are copied.
    """
    share = 1 - math.exp(-1 / span)

    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], _: Any) -> None:
        for average, value in zip(averages, values, strict=True):
            mixed = average.lerp(value, share) if average.is_floating_point() or average.is_complex() else value
            average.copy_(torch.where(average == value, average, mixed))

    return update
