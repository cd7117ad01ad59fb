"""The last stage of a fit: the sliced model is fine-tuned, and a running average of its weights is what remains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import GraphModule

from shrinkspeech.fitting.trainer import Trainer, optimiser_state, to_device
from shrinkspeech.surgery.part import Part


class RunningAverage:
    """Of the parameters and buffers of a module, with a time constant of ``span`` steps; in float32 or wider.

    What does not change stays as it is to the bit; of integers, and of tensors that hold infinite values, the last ones count.

    Attributes:
        values: by name; empty before the first update, which takes the module's own.
    """

    def __init__(self, span: float, values: Mapping[str, Tensor] | None = None) -> None:
        self.share = 1 - math.exp(-1 / span)
        self.values = dict(values or {})
        self.moving = {name for name, value in self.values.items() if _can_move(value)}

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


def _can_move(value: Tensor) -> bool:
    """Whether an average of it means something: infinity minus infinity does not."""
    return (value.is_floating_point() or value.is_complex()) and bool(value.isfinite().all())


def _wide(value: Tensor) -> Tensor:
    """In float32 (complex64) where it is narrower."""
    if value.is_complex():
        return value.to(torch.complex64) if value.element_size() < 8 else value
    return value.float() if value.is_floating_point() and value.element_size() < 4 else value


class TunedRun:
    """A sliced part, its optimiser, and the running average of its weights and buffers.

    Args:
        average: values of the average in a fit that goes on.
    """

    def __init__(self, trainer: Trainer, part: Part, average: Mapping[str, Tensor] | None = None) -> None:
        self.trainer, self.part = trainer, part
        trainer.stage = "tune"
        module = part.captured.copy()
        self.weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.prepared, self.optimiser = trainer.prepare(module, self.weights, part.optimiser)
        span = trainer.settings.average * (trainer.steps - trainer.gated_steps)
        values = to_device(dict(average or {}), trainer.accelerator.device)
        self.average = RunningAverage(span, values) if span > 0 else None

    @property
    def module(self) -> GraphModule:
        """The graph that is trained, without what Accelerate puts around it."""
        module: GraphModule = self.trainer.accelerator.unwrap_model(self.prepared)
        return module

    def step(self) -> None:
        """One optimiser step."""
        self.trainer.descend(self.prepared, self.optimiser, self.weights)
        if self.average is not None:
            self.average.update(self.module)

    def present(self) -> Part:
        """The part with the weights and optimiser of now."""
        captured = replace(self.part.captured, graph_module=self.module)
        return replace(self.part, captured=captured, optimiser=optimiser_state(self.module, self.optimiser))

    def final(self) -> Part:
        """The part with averaged weights, in eval mode on the CPU."""
        if self.average is not None and self.average.values:
            self.module.load_state_dict(self.average.values)
        part = self.present()
        part.captured.graph_module.cpu().eval()
        return replace(part, optimiser={})


def tune(run: TunedRun, after: Callable[[TunedRun], None]) -> Part:
    """Fine-tune for the steps that are left; ``after`` is called after each."""
    while run.trainer.step < run.trainer.steps:
        run.step()
        after(run)
    return run.final()
