"""No labels: the small model learns to give the original's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from shrinkspeech.data.items import Batch
from shrinkspeech.errors import InputError
from shrinkspeech.fitting.distance import distance
from shrinkspeech.tasks.base import Task
from shrinkspeech.tasks.outputs import Observed
from shrinkspeech.tasks.registry import task


@task("distil")
@dataclass
class Distil(Task):
    """The fit's own loss; the distance to the original's outputs relative to their variance, 0 for the same."""

    kind = "none"

    @property
    def has_loss(self) -> bool:
        return False

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        if self.options.model_output is not None:
            raise InputError(f"the task '{self.name}' keeps all outputs near the original's: leave --model-output out")
        return ()

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        raise NotImplementedError("the fit itself compares with the original")

    def evaluate(self, model: Any) -> Mapping[str, float]:
        original = self.captured.copy()
        given_back = {state.output for state in self.captured.states}
        distances = []
        for outputs, batch in self.results(model):
            with torch.no_grad():
                wanted = original(*self.intake(batch))
            pairs = enumerate(zip(tree_leaves(outputs), tree_leaves(wanted), strict=True))
            real = [
                (x, y) for i, (x, y) in pairs if i not in given_back and isinstance(y, Tensor) and y.is_floating_point()
            ]
            parts = [distance(x, y) for x, y in real]
            distances.append(torch.stack(parts).mean())
        return {"distance": float(torch.stack(distances).mean())}
