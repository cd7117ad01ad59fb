"""Norms over axes that carry a group: in training their statistics, running ones too, are those of the kept units alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.surgery.insert import gate


class Across(nn.Module):
    """A norm over ``[B, 6, T, 8]`` whose last axis is the output of a linear layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.f, self.c, self.n, self.g = nn.Linear(6, 8), nn.Conv2d(1, 6, (3, 1)), norm, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.g(self.n(self.c(self.f(x).relu().unsqueeze(1))))


@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_running_statistics_are_those_of_the_sliced_graph(momentum: float) -> None:
    torch.manual_seed(0)
    model = Across(nn.BatchNorm2d(6, momentum=momentum))
    x = torch.randn(4, 9, 6)
    captured = shrinkspeech.capture(model, (x,))
    gated = gate(captured, shrinkspeech.label(captured)).train()
    gated.widths.noise = False
    widths = {"f": 3}
    assert sorted(gated.widths.names) == sorted(widths)
    gated.widths.set(widths)
    sliced = shrinkspeech.slice(captured, gated.groups, gated.widths.ranks.best(widths)).module().train()
    for _ in range(2):
        assert max_difference(gated(x), sliced(x)) <= 1e-5
    for name in ("n.running_mean", "n.running_var"):
        found, wanted = gated.graph.state_dict()[name], sliced.state_dict()[name]
        assert not torch.equal(wanted, captured.parameters()[name])
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_with_running_statistics(training: bool) -> None:
    """With all units kept the masked form is the operator, and moves its statistics as the operator does."""
    from shrinkspeech.rules.masked_norms import instance_norm

    torch.manual_seed(0)
    x, keep = torch.randn(3, 4, 5, 6), torch.ones(6)
    mean, var, weight, bias = (torch.rand(4) + 0.5 for _ in range(4))
    own = mean.clone(), var.clone()
    wanted = torch.instance_norm(x, weight, bias, *own, training, 0.3, 1e-5, False)
    found = instance_norm([None, keep], x, weight, bias, mean, var, training, 0.3, 1e-5, False)
    assert max_difference(found, wanted) <= 1e-6
    assert torch.allclose(mean, own[0])
    assert torch.allclose(var, own[1])
