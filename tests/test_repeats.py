"""What a model computes twice from its input is captured once; what may differ is captured twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.graph.captured import Captured

aten = torch.ops.aten
attend = nn.functional.scaled_dot_product_attention
X = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """``forward(self, x)`` is given; the layers are those that it names."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.line, self.norm, self.drop = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.gru, self.other = nn.GRU(6, 5, batch_first=True), nn.GRU(6, 5, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def captured(function: Callable[[Any, Tensor], Any], x: Tensor = X) -> Captured:
    """The capture, after a comparison with the model."""
    model = Model(function).eval()
    record = shrinkspeech.capture(model, (x,))
    for y, wanted in zip(_tensors(record.copy()(x.clone())), _tensors(model(x.clone())), strict=True):
        assert y.dtype == wanted.dtype
        assert torch.equal(y, wanted)
    return record


def _tensors(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def calls(record: Captured, target: Any) -> int:
    return sum(node.target is target for node in record.graph_module.graph.nodes)


def heads(m: Any, x: Tensor) -> Tensor:
    """Views by sizes that are read anew."""
    return m.line(x).view(x.shape[0], x.shape[1] * 2, 3)


@pytest.mark.parametrize(
    ("function", "target"),
    [
        (lambda m, x: m.line(x).relu() + m.line(x).relu().tanh(), aten.linear.default),
        (lambda m, x: m.norm(x.mT)[:, :, 0] * m.norm(x.mT)[:, :, 1], aten.batch_norm.default),
        (lambda m, x: m.gru(x, x[None, :, 0, :5])[0] + m.gru(x, x[None, :, 0, :5])[1].mT.mean(), aten.gru.input),
        (lambda m, x: attend(x, x, x) + attend(x, x, x).sin(), aten.scaled_dot_product_attention.default),
        (lambda m, x: heads(m, x).sin() + heads(m, x).sin().cos(), aten.sin.default),
    ],
    ids=["linear", "norm", "gru", "attention", "views"],
)
def test_a_layer_that_runs_twice_on_one_input_is_there_once(function: Any, target: Any) -> None:
    assert calls(captured(function), target) == 1


def test_the_cost_is_that_of_one_run() -> None:
    once = captured(lambda m, x: m.line(x).relu())
    twice = captured(lambda m, x: m.line(x).relu() + m.line(x).relu())
    assert shrinkspeech.flops(twice) == shrinkspeech.flops(once) == 2 * 9 * 6 * 6


def test_other_inputs_or_other_numbers_are_not_the_same() -> None:
    assert calls(captured(lambda m, x: m.line(x) + m.line(x + 1)), aten.linear.default) == 2
    whole = torch.arange(8).reshape(2, 4)
    assert calls(captured(lambda m, x: (x * 1, x * 1.0, x * True), whole), aten.mul.Tensor) == 3


def test_random_numbers_are_drawn_anew() -> None:
    a, b = captured(lambda m, x: (m.drop(x), m.drop(x))).copy().train()(X)
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    "zeros",
    [
        lambda x: torch.zeros(1, x.shape[0], 5),
        lambda x: x.new_zeros(1, x.shape[0], 5),
    ],
    ids=["zeros", "new_zeros"],
)
def test_states_that_start_from_zeros_are_not_tied(zeros: Callable[[Tensor], Tensor]) -> None:
    record = captured(
        lambda m, x: m.line(m.gru(x, zeros(x))[0].mean(2, True) + x + m.other(x, zeros(x))[0].sum(2, True))
    )
    widths = [group.size for group in shrinkspeech.label(record).shrinkable]
    assert widths.count(5) == 2


def in_place(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    a, b = x * 2, x * 2
    a[:, 0].zero_()
    return a, b


def test_tensors_that_are_written_to_stay_apart() -> None:
    captured(in_place)
