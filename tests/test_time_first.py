"""A model that is time-first is told from one that is batch-first, whose items do not know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.params import Params
from shrinkspeech.errors import BudgetError
from shrinkspeech.graph.capture import capture
from shrinkspeech.groups.label import label


class Frames(nn.Module):
    """``[T, B, 6]`` or ``[B, T, 6]`` → the same with two features."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.rnn = nn.Linear(6, 8), nn.LSTM(8, 5, batch_first=batch_first)
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.rnn(self.inside(x).relu())[0])
        return y


class Apply(nn.Module):
    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self._forward = nn.Linear(6, 4), forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def _said(model: nn.Module, *shape: int) -> list[str]:
    return [note for note in capture(model.eval(), (torch.randn(*shape),)).notes if "time-first" in note]


def test_time_first_is_said() -> None:
    (note,) = _said(Frames(batch_first=False), 9, 3, 6)
    assert note.startswith(
        "input 0: dimension 0 is taken for the batch, but its items depend on each other, and those of "
    )
    assert (
        "dimension 1 do not: the model seems to be time-first, and then has 9/3 times the FLOP/s that are said:" in note
    )


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.layer(x),
        lambda m, x: m.layer(x).flatten(0, 1),
        lambda m, x: m.layer(x).cumsum(1),
        lambda m, x: m.layer(x).mean(1),
        lambda m, x: m.layer(x) - m.layer(x).mean(),
        lambda m, x: m.layer(x).transpose(0, 1).transpose(1, 2),
        lambda m, x: torch.log(m.layer(x).relu()).cumsum(1),
    ],
)
def test_batch_first_and_what_cannot_be_told_is_not(forward: Any) -> None:
    assert _said(Apply(forward), 3, 9, 6) == []
    assert _said(Frames(batch_first=True), 3, 9, 6) == []


def test_a_pool_over_time_is_said() -> None:
    assert len(_said(Apply(lambda m, x: m.layer(x).mean(0)), 9, 3, 6)) == 1


def test_an_amount_is_not_promised_where_the_batch_is_not_first() -> None:
    """Shares hold; an amount would be that of 3 items for each of 9, and the count of parameters knows no items."""
    captured = capture(Frames(batch_first=False).eval(), (torch.randn(9, 3, 6),))
    groups = label(captured)
    whole = Goal.whole(Flops, captured, groups)
    assert whole.towards(Flops.parse("50%")).target == whole.original / 2
    with pytest.raises(BudgetError, match=r"600 cannot be promised: input 0: .* time-first.*, or give a share"):
        whole.towards(Flops.parse("600"))
    assert Goal.whole(Params, captured, groups).towards(Params.parse("300")).target == 300
    first = capture(Frames(batch_first=True).eval(), (torch.randn(3, 9, 6),))
    assert Goal.whole(Flops, first, label(first)).towards(Flops.parse("4k")).target == 4_000
