"""Activation checkpointing: the same outputs, gradients and statistics from fewer values that are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.fitting.segments import Segments, in_segments, plain, segments_of
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.modes import NORMS, operator_of


class Deep(nn.Module):
    """[B, 6, T] -> [B, 6, T]: layers with dropout, one with running statistics, and a value that is read late."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(6, 6, 3, padding=1) for _ in range(12))
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.norm(self.layers[0](x))
        for layer in list(self.layers)[1:]:
            y = self.drop(torch.tanh(layer(y)))
        return y + first


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Deep().eval(), (torch.randn(2, 6, 40),))


def run(model: nn.Module, owner: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Any], int]:
    """Outputs, gradients and buffers, and bytes that are kept for the backward pass."""
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        y = model(x)
    total = sum(kept.values())
    y.square().mean().backward()
    found = {name: p.grad for name, p in owner.named_parameters()} | dict(owner.named_buffers())
    return y.detach(), found, total


@pytest.mark.parametrize("gated", [False, True])
def test_segments_give_what_the_graph_gives_and_keep_less(captured: Captured, gated: bool) -> None:
    found = []
    for again in (False, True):
        if gated:
            owner: Any = shrinkspeech.GatedModule(captured, shrinkspeech.label(captured))
            owner.widths.set({name: 3.5 for name in owner.widths.names})
            owner.widths.window = 3.0
        else:
            owner = captured.copy()
        model = in_segments(owner) if again else owner
        assert plain(model) is owner
        model.train()
        found.append(run(model, owner, torch.randn(8, 6, 40, generator=torch.Generator().manual_seed(2))))
    (y, tensors, kept), (y2, tensors2, kept2) = found
    assert torch.equal(y, y2)
    assert tensors.keys() == tensors2.keys()
    for name, x in tensors.items():
        assert (x is None and tensors2[name] is None) or torch.equal(x, tensors2[name]), name
    assert kept2 < kept / 2


def test_norms_with_running_statistics_stand_alone_and_are_run_once(captured: Captured) -> None:
    module = captured.copy()
    lots = segments_of(module.graph)
    assert sum(len(lot.nodes) for lot in lots) == len(list(module.graph.nodes)) - 2
    norms = [lot for lot in lots if any(operator_of(node) in NORMS for node in lot.nodes)]
    assert [(len(lot.nodes), lot.again) for lot in norms] == [(1, False)]
    assert all(lot.again for lot in lots if lot not in norms)


def test_without_gradients_nothing_is_computed_twice(captured: Captured) -> None:
    model = Segments(captured.copy())
    x = captured.example_inputs[0]
    with torch.no_grad():
        assert torch.equal(model(x), captured.graph_module(x))


def test_a_graph_that_changes_values_in_place_is_refused() -> None:
    class Shifts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y[:, 0] += 1
            z = y.view(-1)
            z.mul_(3)
            return y

    found = shrinkspeech.capture(Shifts(), (torch.randn(2, 3),))
    with pytest.raises(InputError, match=r"computes values again, and .* of this model changes some in place"):
        Segments(found.copy())
