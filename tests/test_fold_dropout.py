"""Folding into a reader that stands behind dropout: what is regressed must hold while the dropout is on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.fold import dropout_before, fold
from shrinkspeech.surgery.slice import slice as slice_graph

P = 0.25


class Reader(nn.Module):
    """Features ``[B, T, 4]`` of which the last is the sum of the others, dropout, and a matrix that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.drop, self.out = nn.Linear(3, 4, bias=False), nn.Dropout(P), nn.Linear(4, 2)
        with torch.no_grad():
            self.inside.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.inside(x)))


def test_the_ridge_is_the_noise_that_dropout_makes() -> None:
    """M = (Σ + ridge) ⁻¹ … by hand: uncorrelated x_k of variance v and mean m have the ridge p/(1−p)·(v + m²)."""
    torch.manual_seed(0)
    model = Reader().eval()
    x = torch.randn(64, 50, 3) * torch.tensor([1.0, 2.0, 0.5]) + torch.tensor([0.0, 1.0, 3.0])
    captured = shrinkspeech.capture(model, (x,))
    groups = shrinkspeech.label(captured)
    folded = fold(captured, groups, {"inside": [0, 1, 2]}, [(x,)])
    rows = x.reshape(-1, 3).double()
    covariance = torch.cov(rows.T, correction=0)
    ridge = P / (1 - P) * rows.square().mean(0) + 1e-3 * covariance.diagonal().mean()
    solution = torch.linalg.solve(covariance + ridge.diag(), covariance.sum(1))
    gone = model.out.weight[:, 3:].double()
    weight = model.out.weight[:, :3].double() + gone * solution
    bias = model.out.bias.double() + gone[:, 0] * (rows.sum(1).mean() - solution @ rows.mean(0))
    found = folded.parameters()
    assert torch.allclose(found["out.weight"][:, :3].double(), weight, atol=1e-5)
    assert torch.allclose(found["out.bias"].double(), bias, atol=1e-5)


class Stacked(nn.Module):
    """Two LSTMs of many units for an input of few dimensions, with dropout before each reader."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(4, 32, batch_first=True), nn.LSTM(32, 32, batch_first=True)
        self.drop, self.out = nn.Dropout(P), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.second(self.drop(self.first(x)[0]))[0]))


def test_folded_beats_unfolded_with_dropout_on() -> None:
    torch.manual_seed(0)
    model = Stacked().eval()
    x = torch.randn(16, 40, 2) @ torch.randn(2, 4)
    with torch.no_grad():
        wanted = model(x)
    captured = shrinkspeech.capture(model, (x[:2],))
    groups = shrinkspeech.label(captured)
    kept = {"first": list(range(16)), "second": list(range(16))}

    def error(small: Captured) -> float:
        module = small.module().train()
        with torch.no_grad():
            return float(torch.stack([(module(x) - wanted).square().mean() for _ in range(4)]).mean() / wanted.var())

    plain = error(slice_graph(captured, groups, kept))
    folded = error(slice_graph(fold(captured, groups, kept, [(x,)]), groups, kept))
    assert folded < 0.75 * plain


@pytest.mark.parametrize(
    ("layers", "rate"),
    [
        ([nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)], 0.0),
        ([nn.Linear(4, 6), nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 4)], 0.3),
        ([nn.Linear(4, 6), nn.Dropout(0.5), nn.Dropout(0.2), nn.Linear(6, 4)], 0.6),
        ([nn.Linear(4, 6), nn.Dropout(0.3), nn.Sigmoid(), nn.Linear(6, 4)], 0.0),
    ],
    ids=["none", "behind a relu", "two", "hidden by a sigmoid"],
)
def test_the_rate_is_that_of_the_dropout_in_front(layers: list[nn.Module], rate: float) -> None:
    captured = shrinkspeech.capture(nn.Sequential(*layers).eval(), (torch.randn(2, 4),))
    groups = shrinkspeech.label(captured)
    [last] = [effect.folds[0] for name, effect in groups.effects.items() if effect.folds][-1:]
    assert dropout_before(last.feature) == pytest.approx(rate)
