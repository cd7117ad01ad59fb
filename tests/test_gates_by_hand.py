"""Keeps, noise and gradients of gates, against their formulas, on axes that no model has to be captured for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, fx

from shrinkspeech.axes.algebra import ONE, Axis, Fixed, Label, Product, Sum
from shrinkspeech.groups.groups import Group, Groups
from shrinkspeech.rules.registry import Masked, Read
from shrinkspeech.surgery.gates import Gate, MaskedOperator, Widths, amplitude
from shrinkspeech.surgery.ranks import Ranks

SIZE = 8
NODE = fx.Graph().placeholder("x")
UP, OTHER, STILL = Label(1, SIZE), Label(2, 3), Label(3, 2)
GROUPS = Groups(
    {"up": Group("up", UP), "other": Group("other", OTHER), "still": Group("still", STILL, frozen="model output")},
    {},
    {},
    {},
)


def widths(width: float, window: float = 1.0, ranks: list[int] | None = None) -> Widths:
    found = Widths(GROUPS, Ranks({"up": ranks or list(range(SIZE)), "other": [0, 1, 2]}))
    found.window = window
    found.set({"up": width})
    return found


def keep(width: float, window: float = 1.0, axis: Axis = UP, ranks: list[int] | None = None) -> list[float]:
    found = widths(width, window, ranks).keep(axis)
    assert found is not None
    return [float(value) for value in found.detach()]


def switch(found: Widths, axis: Axis, dim: int, outer: Axis = ONE, inner: Axis = ONE) -> Gate:
    """The gate of a reader of an axis."""
    return Gate(found, Read(NODE, dim, axis, outer, inner))


@pytest.mark.parametrize(
    ("width", "window", "wanted"),
    [
        (2.25, 1.0, [1, 1, 0.25, 0, 0, 0, 0, 0]),
        (3.0, 1.0, [1, 1, 1, 0, 0, 0, 0, 0]),
        (4.5, 2.0, [1, 1, 1, 1, 0.5, 0, 0, 0]),
        (4.0, 4.0, [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0]),
        (1.5, 8.0, [5 / 6, 0.5, 1 / 6, 0, 0, 0, 0, 0]),
        (7.0, 8.0, [1, 1, 1, 1, 1, 1, 0.75, 0.25]),
        (0.25, 8.0, [0.25, 0, 0, 0, 0, 0, 0, 0]),
    ],
    ids=[
        "one",
        "whole",
        "half",
        "wide",
        "no wider than twice the width",
        "nor than twice the rest",
        "but one at least",
    ],
)
def test_keeps_by_hand(width: float, window: float, wanted: list[float]) -> None:
    found = widths(1.0)
    found.lowest[:] = 0.0  # a width of less than a unit
    found.window = window
    found.set({"up": width})
    keeps = found.keep(UP)
    assert keeps is not None
    assert keeps.dtype == torch.float32
    assert keeps.tolist() == pytest.approx(wanted, abs=1e-6)
    assert sum(wanted) == pytest.approx(width)


def test_ranks_say_who_closes() -> None:
    assert keep(2.25, ranks=[7, 6, 5, 4, 3, 2, 1, 0]) == [0, 0, 0, 0, 0, 0.25, 1, 1]


@pytest.mark.parametrize(
    ("width", "wanted"), [(3.0 - 1e-9, [1.0] * 3 + [0.0] * 5), (3.0 + 1e-9, [1.0] * 3 + [0.0] * 5)]
)
def test_a_hair_beside_a_whole_width_is_whole(width: float, wanted: list[float]) -> None:
    assert keep(width) == wanted


def test_widths_stay_within_their_limits() -> None:
    found = widths(1.0)
    found.set({"up": 20.0, "other": -3.0})
    assert found.real.tolist() == [8.0, 1.0]
    assert found.integers() == {"up": 8, "other": 1}
    found.set({"up": 2.6})
    assert found.integers() == {"up": 3, "other": 1}


def test_axes_of_several_groups() -> None:
    """Row-major products, sums side by side; what is whole or frozen counts as kept."""
    assert keep(2.5, axis=Product((UP, Fixed(2)))) == [1, 1, 1, 1, 0.5, 0.5, *[0] * 10]
    assert keep(2.5, axis=Product((Fixed(2), UP))) == [1, 1, 0.5, 0, 0, 0, 0, 0] * 2
    assert keep(1.0, axis=Sum((OTHER, UP, STILL))) == [1, 1, 1, 1, *[0] * 7, 1, 1]
    both = widths(2.0)
    both.set({"other": 1.5})
    found = both.keep(Product((OTHER, UP)))
    assert found is not None
    assert found.tolist() == [1.0, 1.0, *[0.0] * 6, 0.5, 0.5, *[0.0] * 6, *[0.0] * 8]
    assert both.keep(Product((STILL, Fixed(3)))) is None
    assert widths(8.0).keep(Sum((OTHER, UP))) is None


def test_overrides_come_before_widths() -> None:
    """What Taylor scores differentiate by; without noise, also where every unit is whole."""
    found = widths(8.0)
    found.overrides = {"up": torch.full((SIZE,), 0.5)}
    found.refresh()
    x = torch.randn(2, SIZE)
    assert torch.equal(switch(found, UP, 1).train()(x), 0.5 * x)


def test_amplitudes_are_roots_with_exact_ends() -> None:
    found = amplitude(torch.tensor([0.0, 1e-6, 0.25, 1.0]))
    assert found.tolist() == pytest.approx([0.0, 0.01, 0.5, 1.0])


@pytest.mark.parametrize("keep_power", [False, True])
@pytest.mark.parametrize("dim", [1, 2])
def test_every_unit_on_the_boundary_has_noise_of_its_own_size(keep_power: bool, dim: int) -> None:
    """y = a x + √(a (1 − a)) σ ν, or √a x + √(1 − a) σ ν, with σ the RMS of each unit over all else."""
    found = widths(4.0, window=4.0)
    found.keep_power = keep_power
    torch.manual_seed(0)
    x = (torch.randn(5, 7, SIZE) + 0.3) * 10 ** torch.linspace(-2, 2, SIZE)
    a = torch.tensor([0.875, 0.625, 0.375, 0.125])
    given = x if dim != 1 else x.transpose(1, 2).contiguous()
    torch.manual_seed(1)
    y = switch(found, UP, dim).train()(given).detach()
    torch.manual_seed(1)
    noise = torch.randn(5, 7, 4) if dim != 1 else torch.randn(5, 4, 7).transpose(1, 2)
    y = y if dim != 1 else y.transpose(1, 2)
    sigma = x[..., 2:6].square().mean((0, 1)).sqrt()
    clean, loud = (a.sqrt(), (1 - a).sqrt()) if keep_power else (a, (a * (1 - a)).sqrt())
    assert torch.equal(y[..., :2], x[..., :2])
    assert not y[..., 6:].any()
    torch.testing.assert_close(y[..., 2:6], clean * x[..., 2:6] + loud * sigma * noise)


def test_noise_is_for_training_and_can_be_left_out() -> None:
    found, x = widths(4.0, window=4.0), torch.randn(3, SIZE)
    gate = switch(found, UP, 1)
    quiet = x * torch.tensor([1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0])
    assert torch.equal(gate.eval()(x), quiet)
    assert not torch.equal(gate.train()(x), quiet)
    found.noise = False
    assert torch.equal(gate(x), quiet)


def test_a_dimension_that_holds_more_than_what_is_read() -> None:
    """Two groups apart, the axis, three places of each unit: every part is gated alike."""
    x = torch.randn(4, 2 * SIZE * 3, 5)
    gate = switch(widths(2.25), UP, 1, Fixed(2), Fixed(3)).eval()
    keep = torch.tensor([1, 1, 0.25, 0, 0, 0, 0, 0])
    wanted = x.reshape(4, 2, SIZE, 3, 5) * keep[:, None, None]
    assert torch.equal(gate(x), wanted.reshape(x.shape))


def through(found: Widths, gate: Gate, x: Tensor, weight: Tensor, width: float) -> Tensor:
    """A loss at a width, without noise."""
    with torch.no_grad():
        found.fractions[0] = width / SIZE
    found.refresh()
    return (weight * gate(x)).sum()


@pytest.mark.parametrize("axis", [UP, Product((UP, Fixed(2))), Sum((OTHER, UP))], ids=["label", "product", "sum"])
@pytest.mark.parametrize(("width", "window"), [(3.3, 4.0), (2.6, 1.0)])
def test_the_gradient_of_a_width_is_that_of_finite_differences(axis: Axis, width: float, window: float) -> None:
    found, torch_generator = widths(width, window), torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 4, axis.size, 3, generator=torch_generator), torch.randn(3, generator=torch_generator)
    gate, step = switch(found, axis, 2).eval(), 1e-2
    (gradient,) = torch.autograd.grad(through(found, gate, x, weight, width), found.fractions)
    with torch.no_grad():
        ends = [float(through(found, gate, x, weight, width + sign * step)) for sign in (-1, 1)]
    assert float(gradient[0]) / SIZE == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-3)
    assert float(gradient[1]) == 0.0


def test_the_gradient_of_the_feature_is_the_keep() -> None:
    gate, x = switch(widths(2.25), UP, 1), torch.randn(3, SIZE, requires_grad=True)
    weight = torch.randn(3, SIZE)
    (gradient,) = torch.autograd.grad((weight * gate.train()(x)).sum(), x)
    assert torch.equal(gradient, weight * torch.tensor([1, 1, 0.25, 0, 0, 0, 0, 0]))


def test_with_noise_the_gradient_of_a_width_is_that_of_the_formula() -> None:
    """d/dK of a x + √(a (1 − a)) σ ν on the one unit of the boundary, where da/dK is 1."""
    found, x = widths(2.25), torch.randn(50, SIZE)
    torch.manual_seed(3)
    loss = switch(found, UP, 1).train()(x).sum()
    (gradient,) = torch.autograd.grad(loss, found.fractions)
    torch.manual_seed(3)
    noise = float(torch.randn(50, 1).sum())
    a, sigma = 0.25, float(x[:, 2].square().mean().sqrt())
    slope = (1 - 2 * a) / (2 * math.sqrt(a * (1 - a)))
    assert float(gradient[0]) / SIZE == pytest.approx(float(x[:, 2].sum()) + slope * sigma * noise, rel=1e-4)


def test_half_precision_stays_half() -> None:
    x = torch.randn(40, SIZE).to(torch.bfloat16)
    y = switch(widths(2.25), UP, 1).train()(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y[:, :2], x[:, :2])


def test_a_masked_operator_is_the_operator_itself_while_all_is_open() -> None:
    found = widths(8.0)
    masked = Masked(lambda keeps, x: [None if keep is None else keep.tolist() for keep in keeps], (UP, OTHER))
    operator = MaskedOperator(found, lambda x: "itself", masked)
    assert operator(1) == "itself"
    found.set({"up": 2.0})
    assert operator(1) == [[1.0] * 2 + [0.0] * 6, None]
