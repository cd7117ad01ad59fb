"""Gates: how much of each unit is kept, what the noise does, and which way the gradient of a width points."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.axes.algebra import labels_of
from shrinkspeech.surgery.gates import Gate, Widths
from shrinkspeech.surgery.insert import GatedModule

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
    before, ranks = widths.ranks, widths.ranks.with_scores({"up": scores})
    widths.set_ranks(ranks)
    assert set(ranks.best({"up": 5})["up"]) == set(scores.topk(5).indices.tolist())
    keep = keeps(widths, 5, 1.0)
    assert set(keep.nonzero().flatten().tolist()) == set(scores.topk(5).indices.tolist())
    widths.set_ranks(before)


def noisy_unit(keep_power: bool) -> tuple[Tensor, Tensor]:
    """The unit on the boundary before and after a gate that keeps it to 0.36; the others are checked."""
    model = gated().train()
    gate = next(child for name, child in model.graph.named_children() if "gate" in name)
    model.widths.window, model.widths.keep_power = 1.0, keep_power
    model.widths.set({"up": 16.36})
    x = torch.randn(200, 100, SIZE) * 3
    y = gate(x).detach()
    assert torch.equal(y[..., :16], x[..., :16])
    assert not y[..., 17:].any()
    return x[..., 16].flatten(), y[..., 16].flatten()


@pytest.mark.parametrize("keep_power", [False, True])
def test_noise_takes_the_information(keep_power: bool) -> None:
    x, y = noisy_unit(keep_power)
    correlation = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
    assert correlation**2 == pytest.approx(0.36, abs=0.02)


def test_the_gain_is_the_one_of_least_error() -> None:
    """Wiener: regressing the clean on the noisy feature gives 1, and the mean square error is 1 − keep."""
    x, y = noisy_unit(False)
    assert float((x @ y) / (y @ y)) == pytest.approx(1.0, abs=0.03)
    assert float((y - x).square().mean() / x.square().mean()) == pytest.approx(0.64, abs=0.02)


def test_the_power_can_be_kept() -> None:
    x, y = noisy_unit(True)
    assert float(y.std() / x.std()) == pytest.approx(1.0, abs=0.03)


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


def gates_of(*layers: nn.Module) -> list[Gate]:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(nn.Sequential(*layers).eval(), (torch.randn(2, 3, 20),))
    module = shrinkspeech.gate(captured, shrinkspeech.label(captured))
    return [child for child in module.graph.children() if isinstance(child, Gate)]


def test_a_depthwise_convolution_reads_no_other_channel() -> None:
    """Its one gate stands behind it, where the channels are mixed."""
    [only] = gates_of(nn.Conv1d(3, 8, 3), nn.Conv1d(8, 16, 3, groups=8), nn.Conv1d(16, 2, 1))
    assert only.read.axis.size == 16


def test_a_grouped_convolution_reads_the_channels_inside_its_groups() -> None:
    """Whole groups are apart: closing one changes nothing before the next reader; every group has the same gate inside."""
    first, second = gates_of(nn.Conv1d(3, 12, 3), nn.Conv1d(12, 6, 3, groups=3), nn.Conv1d(6, 2, 1))
    assert (first.read.axis.size, first.read.outer.size, second.read.axis.size) == (4, 3, 6)
    widths, x = first._widths[0], torch.ones(2, 12, 5)
    count, inner = (widths.groups.of(next(labels_of(axis))).name for axis in (first.read.outer, first.read.axis))
    widths.set({count: 2.0})
    assert torch.equal(first(x), x)
    widths.set({count: 2.0, inner: 3.0})
    assert first(x)[0, :, 0].tolist() == [1, 1, 1, 0] * 3


def test_a_reader_after_a_change_in_place_has_a_gate_of_its_own() -> None:
    """The first reader sees the feature, the second what a view of it has become."""

    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.up(x)
            seen = y.view(y.shape)
            first = self.down(seen)
            y.mul_(3.0)
            return first + self.down(seen)

    torch.manual_seed(0)
    x = torch.randn(4, 3)
    captured = shrinkspeech.capture(Changed().eval(), (x,))
    found = shrinkspeech.gate(captured, shrinkspeech.label(captured))
    found.widths.set({"up": 4})
    wanted = shrinkspeech.slice(captured, found.groups, {"up": 4}).graph_module(x)
    assert torch.allclose(found(x), wanted, atol=1e-6)
    assert sum(isinstance(child, Gate) for child in found.graph.children()) == 2
