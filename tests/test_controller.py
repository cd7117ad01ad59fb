"""One step of the widths, against what it should be by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from shrinkspeech.axes.algebra import Label
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.widths import rescale
from shrinkspeech.fitting.controller import WidthController, between
from shrinkspeech.groups.cost import Polynomial
from shrinkspeech.groups.groups import Group, Groups
from shrinkspeech.surgery.gates import Widths

RATE, MEMORY = 0.01, 0.9
PRICES = {"a": 2.0, "b": 3.0, "c": 5.0}
"""FLOP/s of one unit of each group."""


def controlled(
    widths: Mapping[str, float],
    sizes: Mapping[str, int] | None = None,
    prices: Mapping[str, float] = PRICES,
    lowest: int = 1,
) -> WidthController:
    """Groups of 100 units, or of ``sizes``, whose cost is the sum of prices · widths."""
    full = dict(sizes or dict.fromkeys(widths, 100))
    groups = Groups(
        {name: Group(name, Label(i, full[name]), min_width=lowest) for i, name in enumerate(widths)}, {}, {}, {}
    )
    module = Widths(groups)
    module.set(widths)
    cost = Polynomial({(name,): prices[name] for name in widths})
    return WidthController(module, goal(cost, full, dict.fromkeys(widths, lowest)), RATE, MEMORY)


def goal(cost: Polynomial, full: Mapping[str, int], lowest: Mapping[str, int]) -> Goal:
    return Goal(Flops, cost, full, lowest, dict.fromkeys(full, 1), cost.at(full), cost.at(full), cost)


def feel(controller: WidthController, gradient: Mapping[str, float]) -> None:
    """The loss falls by so much per relative change of each width (∂L/∂log K)."""
    widths = controller.widths
    wanted = torch.tensor([gradient.get(name, 0.0) for name in widths.names], dtype=torch.float64)
    widths.fractions.grad = wanted / widths.fractions.detach()


def move(controller: WidthController, gradient: Mapping[str, float] | None, budget: float | None = None) -> Tensor:
    """Change of the log widths in one step, without the shift that all of them share."""
    before = controller.widths.real.detach().log()
    if gradient is not None:
        feel(controller, gradient)
    controller.step(controller.goal.at(widths_of(controller)) if budget is None else budget)
    change = controller.widths.real.detach().log() - before
    return change - change[0]


def widths_of(controller: WidthController) -> dict[str, float]:
    return dict(zip(controller.widths.names, controller.widths.real.tolist(), strict=True))


def by_hand(gradient: Mapping[str, float], widths: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The price and the direction of a first step, where every width may move."""
    total = sum(PRICES[name] * width for name, width in widths.items())
    slope = {name: PRICES[name] * width / total for name, width in widths.items()}
    momentum = {name: (1 - MEMORY) * gradient[name] for name in widths}
    price = sum(momentum[n] * slope[n] for n in widths) / sum(slope[n] ** 2 for n in widths)
    return price, {name: momentum[name] - price * slope[name] for name in widths}


def test_one_step_by_hand() -> None:
    widths, gradient = {"a": 40.0, "b": 20.0, "c": 10.0}, {"a": -1.0, "b": 0.5, "c": -2.0}
    controller = controlled(widths)
    price, direction = by_hand(gradient, widths)
    size = math.sqrt(sum(value**2 for value in direction.values()) / 3)
    change = move(controller, gradient)
    for name, found in zip(widths, change.tolist(), strict=True):
        assert found == pytest.approx(-RATE * (direction[name] - direction["a"]) / size, rel=1e-6)
    assert controller.price == pytest.approx(price)
    assert controller.scale == pytest.approx(size)
    assert controller.widths.fractions.grad is None


@pytest.mark.parametrize("budget", [150.0, 190.0, 240.0])
def test_the_cost_is_what_was_asked_for(budget: float) -> None:
    controller = controlled({"a": 40.0, "b": 20.0, "c": 10.0})
    feel(controller, {"a": -1.0, "b": 0.5, "c": -2.0})
    returned = controller.step(budget)
    assert controller.goal.at(widths_of(controller)) == pytest.approx(budget, rel=1e-6)
    assert returned == pytest.approx(budget, rel=1e-6)


@pytest.mark.parametrize(("felt", "grows"), [(-1.0, "a"), (1.0, "b")])
def test_the_width_that_lowers_the_loss_grows(felt: float, grows: str) -> None:
    controller = controlled({"a": 30.0, "b": 20.0})
    feel(controller, {"a": felt})
    controller.step(120.0)
    assert max(widths_of(controller).items(), key=lambda item: item[1] / {"a": 30.0, "b": 20.0}[item[0]])[0] == grows


def test_a_loss_that_feels_only_the_cost_trades_nothing() -> None:
    """∂L/∂log K = −λ ∂log F/∂log K: every FLOP is worth the same."""
    widths = {"a": 40.0, "b": 20.0, "c": 10.0}
    controller = controlled(widths)
    controller.scale = 1.0  # as after steps that felt something: what is left here is rounding
    total = sum(PRICES[name] * width for name, width in widths.items())
    change = move(controller, {name: -7.0 * PRICES[name] * width / total for name, width in widths.items()})
    assert controller.price == pytest.approx(-7.0 * (1 - MEMORY))
    assert change.tolist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_the_gradient_is_remembered() -> None:
    """Two steps, of which the second feels nothing, and one without any gradient."""
    widths, gradient = {"a": 40.0, "b": 20.0}, {"a": -1.0, "b": 0.25}
    controller = controlled(widths)
    move(controller, gradient)
    first = controller.momentum.tolist()
    assert first == pytest.approx([(1 - MEMORY) * gradient[name] for name in widths])
    move(controller, {"a": 0.0, "b": 3.0})
    assert controller.momentum.tolist() == pytest.approx([MEMORY * first[0], MEMORY * first[1] + (1 - MEMORY) * 3.0])
    second = controller.momentum.clone()
    move(controller, None)
    assert torch.equal(controller.momentum, second)


def test_a_small_gradient_after_a_large_one_makes_a_small_step() -> None:
    """The scale forgets a twentieth in each step; in the first the root mean square change is the rate."""
    widths = {"a": 30.0, "b": 20.0}
    controller = controlled(widths)
    change = move(controller, {"a": -1.0, "b": 1.0})
    assert float(change[1]) == pytest.approx(-2 * RATE, rel=1e-2)
    large = controller.scale
    controller.momentum /= 100
    change = move(controller, None)
    assert controller.scale == pytest.approx(0.95 * large)
    assert float(change[1]) == pytest.approx(-2 * RATE / 95, rel=2e-2)


def test_the_scale_follows_a_larger_gradient_at_once() -> None:
    controller = controlled({"a": 30.0, "b": 20.0})
    move(controller, {"a": -1.0, "b": 1.0})
    before = controller.scale
    controller.momentum *= 100
    move(controller, None)
    assert controller.scale == pytest.approx(100 * before, rel=1e-2)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_no_width_moves_more_than_three_times_the_rate(sign: float) -> None:
    """Of many groups one alone is felt: its share of the root mean square would be larger."""
    names = [f"g{i}" for i in range(40)]
    controller = controlled(dict.fromkeys(names, 50.0), prices=dict.fromkeys(names, 1.0))
    change = move(controller, {"g5": sign})
    assert float(change[5]) == pytest.approx(-sign * 3 * RATE, rel=0.1)
    assert abs(float(change[5])) > 3 * RATE


@pytest.mark.parametrize(("stuck", "width"), [("whole", 100.0), ("smallest", 4.0)])
def test_a_width_at_its_limit_takes_no_part(stuck: str, width: float) -> None:
    """The others go where they would go without it, and what it cannot follow is in nobody's price."""
    gradient = {"a": -1.0, "b": 0.5}
    alone, beside = (
        controlled({"a": 40.0, "b": 20.0}, lowest=4),
        controlled({"a": 40.0, "b": 20.0, "c": width}, lowest=4),
    )
    wanted = move(alone, gradient)
    found = move(beside, {**gradient, "c": -50.0 if stuck == "whole" else 50.0})
    larger = math.sqrt(3 / 2)  # the root mean square is that of three widths, of which one stays
    assert found[:2].tolist() == pytest.approx([larger * value for value in wanted.tolist()], rel=1e-6)
    assert widths_of(beside)["c"] == pytest.approx(width, rel=1e-4)
    total = 2.0 * 40 + 3.0 * 20
    assert alone.price == pytest.approx(by_hand(gradient, {"a": 40.0, "b": 20.0})[0])
    assert beside.price == pytest.approx(alone.price * (total + 5.0 * width) / total)


def test_where_all_but_one_are_at_their_limits_all_may_move() -> None:
    controller = controlled({"a": 40.0, "b": 100.0})
    feel(controller, {"b": 5.0})
    controller.step(2.0 * 40 + 3.0 * 100)
    found = widths_of(controller)
    assert found["a"] > 40.0
    assert found["b"] < 100.0


def test_without_any_gradient_all_widths_shrink_alike() -> None:
    controller = controlled({"a": 40.0, "b": 20.0})
    controller.step(70.0)
    assert widths_of(controller) == pytest.approx({"a": 20.0, "b": 10.0}, rel=1e-6)
    assert (controller.price, controller.scale) == (0.0, 0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_of_which_a_part_is_not_finite_counts_as_none(value: float) -> None:
    controller = controlled({"a": 40.0, "b": 20.0})
    feel(controller, {"a": value, "b": 1.0})
    controller.step(70.0)
    assert widths_of(controller) == pytest.approx({"a": 20.0, "b": 10.0}, rel=1e-6)
    assert not controller.momentum.any()


def test_products_of_widths_have_both_slopes() -> None:
    """F = 2ab + 3b: ∂log F/∂log a is the share of the first term, ∂log F/∂log b is 1."""
    controller = controlled({"a": 40.0, "b": 20.0})
    cost = Polynomial({("a", "b"): 2.0, ("b",): 3.0})
    limits = controller.goal.full, controller.goal.lowest
    controller = WidthController(controller.widths, goal(cost, *limits), RATE, MEMORY)
    feel(controller, {"a": -1.0})
    controller.step(cost.at({"a": 40.0, "b": 20.0}))
    share = 2.0 * 40 / (2.0 * 40 + 3.0)
    assert controller.price == pytest.approx(-(1 - MEMORY) * share / (share**2 + 1))


def test_interpolation_is_geometric() -> None:
    assert between(100.0, 25.0, 0.5) == pytest.approx(50.0)
    assert between(8.0, 1.0, 1 / 3) == pytest.approx(4.0)
    assert [between(100.0, 25.0, progress) for progress in (-1.0, 0.0, 1.0, 2.0)] == pytest.approx([100, 100, 25, 25])


def test_one_shift_for_all_widths_by_hand() -> None:
    """a = 2 e^s, b = 4 e^s at a price of 1 each; one stops at its size, one at its smallest."""
    logs = {"a": math.log(2.0), "b": math.log(4.0)}

    def limited(full: int, lowest: int) -> Goal:
        return goal(Polynomial({("a",): 1.0, ("b",): 1.0}), {"a": 100, "b": full}, {"a": lowest, "b": 1})

    assert rescale(logs, limited(100, 1), 12.0) == pytest.approx({"a": 4.0, "b": 8.0}, rel=1e-6)
    assert rescale(logs, limited(6, 1), 12.0) == pytest.approx({"a": 6.0, "b": 6.0}, rel=1e-6)
    assert rescale(logs, limited(100, 3), 5.0) == pytest.approx({"a": 3.0, "b": 2.0}, rel=1e-6)
    assert rescale(logs, limited(100, 1), 12.0)["a"] <= 4.0
