"""Gates: how much of each unit is kept, what the noise does, and which way the gradient of a width points."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.gates import Widths
from shrinkspeech.gating import GatedModule

SIZE = 32


class Two(nn.Module):
    """``[B, T, 8] → [B, T, 3]`` over 32 hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, SIZE), nn.LayerNorm(SIZE), nn.Linear(SIZE, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.norm(torch.relu(self.up(x))))


def gated() -> GatedModule:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Two().eval(), (torch.randn(2, 10, 8),))
    return shrinkspeech.gate(captured, shrinkspeech.label(captured))


@pytest.fixture(scope="module")
def widths() -> Widths:
    return gated().widths


def keeps(widths: Widths, width: float, window: float) -> Tensor:
    widths.window = window
    widths.set({"up": width})
    group = widths.groups["up"]
    keep = widths.keep(group.label)
    return torch.ones(SIZE) if keep is None else keep.detach()


@given(width=st.floats(1, SIZE), window=st.floats(1, 16))
def test_the_keeps_sum_to_the_width(widths: Widths, width: float, window: float) -> None:
    keep = keeps(widths, width, window)
    assert float(keep.sum()) == pytest.approx(width, abs=0.51 if window > 1 else 1e-3)
    assert bool(((keep >= 0) & (keep <= 1)).all())
    assert bool((keep.diff() <= 1e-6).all()), "lower ranks are kept at least as much"


@given(width=st.integers(1, SIZE))
def test_whole_widths_without_a_window_are_ones_and_zeros(widths: Widths, width: int) -> None:
    keep = keeps(widths, width, 1.0)
    assert keep.tolist() == [1.0] * width + [0.0] * (SIZE - width)


def test_ranks_say_which_units_stay(widths: Widths) -> None:
    scores = torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
    widths.set_rank("up", scores)
    assert set(widths.kept({"up": 5})["up"]) == set(scores.topk(5).indices.tolist())
    keep = keeps(widths, 5, 1.0)
    assert set(keep.nonzero().flatten().tolist()) == set(scores.topk(5).indices.tolist())
    widths.set_rank("up", -torch.arange(SIZE).float())


def test_noise_keeps_the_power_and_takes_the_information() -> None:
    model = gated().train()
    gate = next(child for name, child in model.graph.named_children() if "gate" in name)
    model.widths.window = 1.0
    model.widths.set({"up": 16.36})
    x = torch.randn(200, 100, SIZE) * 3
    y = gate(x).detach()
    boundary = 16
    assert torch.equal(y[..., :boundary], x[..., :boundary])
    assert not y[..., boundary + 1 :].any()
    assert float(y[..., boundary].std() / x[..., boundary].std()) == pytest.approx(1.0, abs=0.03)
    correlation = float(torch.corrcoef(torch.stack([x[..., boundary].flatten(), y[..., boundary].flatten()]))[0, 1])
    assert correlation**2 == pytest.approx(0.36, abs=0.02)


def test_evaluation_is_without_noise() -> None:
    model = gated()
    model.widths.set({"up": 16.5})
    x = torch.randn(2, 10, 8)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_more_width_lowers_a_loss_that_needs_it() -> None:
    """Towards the original's own outputs the loss falls with the width: its gradient is below zero."""
    model = gated()
    x = torch.randn(64, 20, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = model(x)
    model.widths.window = 8.0
    model.widths.set({"up": 16.0})
    model.train()
    total = torch.zeros(1, dtype=torch.float64)
    for _ in range(20):
        (gradient,) = torch.autograd.grad((model(x) - wanted).square().mean(), model.widths.fractions)
        total += gradient
    assert float(total) < 0


def test_unknown_groups_are_refused(widths: Widths) -> None:
    with pytest.raises(KeyError):
        widths.set({"nowhere": 3})


def test_captured_gives_the_trained_weights_back() -> None:
    model = gated()
    with torch.no_grad():
        model.graph.get_parameter("up.weight").mul_(2)
    captured = model.captured()
    assert torch.equal(captured.graph_module.get_parameter("up.weight"), model.graph.get_parameter("up.weight"))
    x = torch.randn(2, 10, 8)
    assert torch.equal(captured.graph_module(x), model(x))
