"""The distance to the original's outputs, which is part of the loss."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.distance import distance
from tests.detector import SECONDS, train_batches


class Two(nn.Module):
    """Logits, what they say as whole numbers, and a mask of minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.out(self.inside(x.mean(2)).relu())
        return logits, logits.argmax(-1), torch.where(logits > 0, logits, -torch.inf)


def test_outputs_that_are_whole_or_infinite_do_not_disturb_the_distance_to_the_original() -> None:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Two().eval(), (torch.randn(2, 12, 30),))
    recipe = SimpleNamespace(
        train_batches=train_batches,
        loss=lambda outputs, item: nn.functional.cross_entropy(outputs[0], item[1][:, 0].long()),
    )
    fitted = shrinkspeech.fit(captured, recipe, "50%", steps=6, seconds=SECONDS)
    assert fitted.report.loss is not None
    assert torch.isfinite(torch.tensor(fitted.report.loss))
    assert float(distance(torch.ones(3), torch.tensor([1.0, -torch.inf, 1.0]))) == 0.0
    assert float(distance(torch.zeros(2), torch.tensor([1.0, -1.0]))) == pytest.approx(1.0)
