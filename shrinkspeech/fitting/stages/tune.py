"""Tune: the small model is fine-tuned for the steps that are left; a running average of its weights is what remains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.fx import GraphModule

from shrinkspeech.fitting.average import RunningAverage
from shrinkspeech.fitting.stages.stage import Draft, Stage
from shrinkspeech.fitting.trainer import optimiser_state
from shrinkspeech.surgery.part import Part


class Tune(Stage):
    """Fine-tuning of a sliced part.

    Attributes:
        average: of its weights and buffers, over about ``Settings.average`` of this stage's steps; None: the last ones count.
    """

    name = "tune"

    average: RunningAverage | None

    def begin(self, draft: Draft) -> None:
        trainer, self.draft = self.job.trainer, draft
        module = draft.part.captured.copy()
        self.weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.prepared, self.optimiser = trainer.prepare(module, self.weights, draft.part.optimiser)
        span = trainer.settings.average * (trainer.steps - trainer.gated_steps)
        self.average = RunningAverage(span) if span > 0 else None
        self.standing = self.job.standing(self.name, draft.part.widths)

    @property
    def done(self) -> bool:
        return self.job.trainer.step >= self.job.trainer.steps

    @property
    def module(self) -> GraphModule:
        """The graph that is trained, without what training puts around it."""
        module: GraphModule = self.job.trainer.plain(self.prepared)
        return module

    def step(self) -> None:
        self.job.trainer.descend(self.prepared, self.optimiser, self.weights, self.standing)
        if self.average is not None:
            self.average.update(self.module)

    def result(self) -> Draft:
        """With averaged weights, in eval mode on the CPU."""
        if self.average is not None and self.average.values:
            self.module.load_state_dict(self.average.values)
        part = replace(self.present(), optimiser={})
        part.captured.graph_module.cpu().eval()
        return replace(self.draft, part=part)

    def present(self) -> Part:
        """The part with the weights and the optimiser's state of now."""
        part = self.draft.part
        captured = replace(part.captured, graph_module=self.module)
        return replace(part, captured=captured, optimiser=optimiser_state(self.module, self.optimiser))

    def state(self) -> dict[str, Any]:
        average = {} if self.average is None else self.average.state()
        return {"draft": replace(self.draft, part=self.present()).state(), "average": average}

    def load(self, state: Mapping[str, Any]) -> None:
        self.begin(Draft.from_state(state["draft"], self.job.whole))
        if self.average is not None:
            self.average.load(state["average"], self.job.trainer.accelerator.device)
