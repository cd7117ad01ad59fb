"""Goals: which budgets there are to reach, and whole widths that meet them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import shrinkspeech
from shrinkspeech.budget.amounts import human
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.size import Size
from shrinkspeech.budget.widths import repair, rescale, uniform
from shrinkspeech.errors import BudgetError
from shrinkspeech.groups.cost import DifferentiableCost, Maximum, Polynomial


def chain(sizes: list[int], step: int = 1, lowest: int = 1) -> Goal:
    """A stack of dense layers: 10 inputs, the given widths, 3 outputs; 2 operations for each weight."""
    names = [f"g{i}" for i in range(len(sizes))]
    terms: dict[tuple[str, ...], float] = {(names[0],): 20.0}
    for a, b in itertools.pairwise(names):
        terms[(a, b)] = 2.0
    terms[(names[-1],)] = terms.get((names[-1],), 0.0) + 6.0
    full, cost = dict(zip(names, sizes, strict=True)), Polynomial(terms)
    whole = cost.at(full)
    return Goal(Flops, cost, full, dict.fromkeys(names, lowest), dict.fromkeys(names, step), whole, whole, cost)


# -- targets ------------------------------------------------------------------------------------------------------


def test_a_target_becomes_an_amount() -> None:
    whole = chain([64, 64])  # 20 · 64 + 2 · 64 · 64 + 6 · 64
    assert whole.original == 9856
    assert whole.towards(Flops.parse("25%")).target == 2464
    assert whole.towards(Flops.parse("2k")).target == 2000
    assert whole.towards(Flops.parse("100%")).target == 9856


def test_above_the_original() -> None:
    with pytest.raises(
        BudgetError, match=r"the target 20k is above the original's 9.86k FLOP/s: nothing has to shrink"
    ):
        chain([64, 64]).towards(Flops.parse("20k"))


def test_out_of_reach_says_what_can_be_reached() -> None:
    whole = chain([64, 64], lowest=16)
    with pytest.raises(BudgetError, match=rf"costs {human(whole.smallest)} FLOP/s \(9.42% of the original\)$"):
        whole.towards(Flops.parse("5%"))
    assert whole.towards(Flops.parse(whole.smallest)).target == whole.smallest


@pytest.mark.parametrize(
    ("text", "asked"), [("25", True), ("12.5", True), ("100", False), ("25x", False), ("9B", False)]
)
def test_a_plain_number_below_a_hundred_may_have_been_meant_as_a_share(text: str, asked: bool) -> None:
    goal = chain([64, 64], lowest=16)
    with pytest.raises(BudgetError) as error:
        Goal(Size, goal.cost, goal.full, goal.lowest, goal.step, goal.original, 0.0, goal.cost).towards(
            Size.parse(text)
        )
    assert str(error.value).endswith(f"did you mean {text}%?") == asked


# -- widths -------------------------------------------------------------------------------------------------------


def test_allowed_widths() -> None:
    goal = chain([30], step=8, lowest=8)
    assert [goal.snap("g0", width) for width in (3.0, 8.0, 15.99, 16.0, 29.9, 30.0)] == [8, 8, 8, 16, 24, 30]
    assert [goal.above("g0", width) for width in (8, 9, 24, 30)] == [16, 16, 30, 30]
    assert [goal.below("g0", width) for width in (30, 24, 16, 8)] == [24, 16, 8, 8]


def test_a_part_has_fewer_units_to_choose_from() -> None:
    goal = chain([30, 20]).within({"g0": 12, "g1": 50})
    assert goal.full == {"g0": 12, "g1": 20}
    assert goal.snap("g0", 29.0) == 12


def test_among_some_groups_the_others_are_whole() -> None:
    goal = chain([30, 20, 10]).within({"g0": 12, "g1": 20, "g2": 10}).among(["g1"])
    assert goal.full == {"g1": 20}
    assert goal.cost.terms == {("g1",): 2 * 12 + 2 * 10, (): 20 * 12 + 6 * 10}
    assert goal.at({"g1": 7}) == chain([30, 20, 10]).at({"g0": 12, "g1": 7, "g2": 10})


def test_the_widths_of_a_model() -> None:
    """Widths are multiples of 4 where the group is larger; the smallest one allowed is rounded up."""
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2))
    captured = shrinkspeech.capture(model.eval(), (torch.randn(2, 5),))
    groups = shrinkspeech.label(captured).restrict(min_width=2)
    goal = Goal.whole(Flops, captured, groups, seconds=0.5, round_to=4)
    small, large = goal.full
    assert goal.full == {small: 3, large: 12}
    assert goal.step == {small: 1, large: 4}
    assert goal.lowest == {small: 2, large: 4}
    assert goal.original == goal.target == goal.flops.at(goal.full) == 2 * 2 * (5 * 3 + 3 * 12 + 12 * 2)
    assert goal.smallest == 2 * 2 * (5 * 2 + 2 * 4 + 4 * 2)
    assert goal.measure(captured) is None


# -- repair -------------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(8, 96), min_size=2, max_size=6),
    shares=st.lists(st.floats(0.05, 1.0), min_size=6, max_size=6),
    step=st.sampled_from([1, 4]),
)
def test_repair_never_exceeds_the_target_and_wastes_little(sizes: list[int], shares: list[float], step: int) -> None:
    goal = chain(sizes, step)
    real = {name: max(1.0, share * goal.full[name]) for name, share in zip(goal.full, shares, strict=False)}
    target = goal.at(real)
    widths = repair(real, goal, max(target, goal.smallest))
    assert goal.at(widths) <= max(target, goal.smallest) * (1 + 1e-9)
    for name, width in widths.items():
        assert goal.lowest[name] <= width <= goal.full[name]
        assert width % step == 0 or width in (goal.full[name], goal.lowest[name])
    assert all(goal.at(trial) > target for trial in larger(goal, widths)), "something more would have fitted"


def larger(goal: Goal, widths: dict[str, int]) -> Iterator[dict[str, int]]:
    """All widths with one group one step wider."""
    for name, width in widths.items():
        if width < goal.full[name]:
            yield {**widths, name: goal.above(name, width)}


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("step", [1, 2])
def test_repair_comes_as_near_as_the_best_of_all_widths(share: float, step: int) -> None:
    """Every choice of three widths is tried: what fits best is at most a third of a step nearer to the target."""
    goal = chain([12, 10, 8], step, lowest=step)
    target = share * goal.original
    choices = itertools.product(*(range(step, size + 1, step) for size in goal.full.values()))
    costs = [goal.at(dict(zip(goal.full, widths, strict=True))) for widths in choices]
    best = max(cost for cost in costs if cost <= target)
    real = rescale({"g0": 2.0, "g1": 1.6, "g2": 1.9}, goal, target)
    widths = repair(real, goal, target)
    found = goal.at(widths)
    assert found <= best
    assert all(goal.at(trial) > target for trial in larger(goal, widths))
    smallest_step = min(goal.at(trial) - found for trial in larger(goal, widths))
    assert best - found < smallest_step / 3


def test_repair_by_hand() -> None:
    """Cost 20 a + 2 a b + 6 b, at most 500; real widths 10.6 and 10.3 cost 492.2.

    Rounded down, 10 and 10 cost 460. A step of a costs 40, one of b 26: a is further below its real width, and its step
    fits exactly, after which nothing does.
    """
    goal = chain([20, 20])
    assert repair({"g0": 10.6, "g1": 10.3}, goal, 500.0) == {"g0": 11, "g1": 10}
    assert repair({"g0": 10.6, "g1": 10.3}, goal, 499.0) == {"g0": 10, "g1": 11}


def test_repair_trades_a_step_for_another() -> None:
    """Cost 20 a + 30 b, at most 100: what is left after rounding down goes to a (90), and then one of a goes for one of b."""
    cost, one = Polynomial({("a",): 20.0, ("b",): 30.0}), {"a": 1, "b": 1}
    goal = Goal(Flops, cost, {"a": 5, "b": 5}, one, one, 250.0, 100.0, Polynomial({}))
    assert repair({"a": 2.9, "b": 1.2}, goal, 99.0) == {"a": 3, "b": 1}
    assert repair({"a": 2.9, "b": 1.2}, goal, 100.0) == {"a": 2, "b": 2}


def test_repair_keeps_to_the_real_widths() -> None:
    goal = chain([100, 100, 100])
    real = {"g0": 20.4, "g1": 80.6, "g2": 40.0}
    widths = repair(real, goal, goal.at(real))
    assert all(abs(widths[name] - real[name]) <= 3 for name in real)
    assert goal.at(widths) >= 0.98 * goal.at(real)


@given(sizes=st.lists(st.integers(8, 96), min_size=2, max_size=5), share=st.floats(0.1, 1.0))
def test_uniform_is_the_largest_equal_share(sizes: list[int], share: float) -> None:
    goal = chain(sizes)
    target = max(share * goal.original, goal.smallest)
    widths = uniform(goal, target)
    assert goal.at(widths) <= target * (1 + 1e-9)
    kept = min(width / goal.full[name] for name, width in widths.items())
    bigger = {name: min(size, int(size * (kept + 2.5 / size)) + 1) for name, size in goal.full.items()}
    assert widths == goal.full or goal.at(bigger) > target


@given(share=st.floats(0.05, 0.95))
def test_rescaled_widths_cost_exactly_the_target(share: float) -> None:
    goal = chain([64, 48, 32])
    target = goal.smallest + share * (goal.original - goal.smallest)
    found = rescale({"g0": 3.0, "g1": 2.0, "g2": 3.3}, goal, target)
    assert goal.at(found) == pytest.approx(target, rel=1e-6)


# -- the largest of several polynomials ---------------------------------------------------------------------------


def worst(full: dict[str, int], *parts: dict[tuple[str, ...], float]) -> Goal:
    """A goal whose cost is the largest of several polynomials."""
    cost, one = Maximum.of(map(Polynomial, parts)), dict.fromkeys(full, 1)
    return Goal(Flops, cost, full, one, one, cost.at(full), cost.at(full), Polynomial({}))


def test_the_largest_of_several() -> None:
    cost = Maximum.of(
        [Polynomial({("a",): 10.0}), Polynomial({("b", "c"): 1.0, (): 5.0}), Polynomial({("b", "c"): 1.0})]
    )
    assert [part.terms for part in cost.parts] == [{("a",): 10.0}, {("b", "c"): 1.0, (): 5.0}], (
        "the last is never largest"
    )
    assert cost.at({"a": 1, "b": 2, "c": 4}) == 13
    assert cost.at({"a": 2, "b": 2, "c": 4}) == 20
    assert [part.terms for part in cost.fix({"b": 2, "c": 4}).parts] == [{(): 13.0}, {("a",): 10.0}]
    assert cost.exceeding({"a": 2, "b": 2, "c": 4}, 20.0) == set()
    assert cost.exceeding({"a": 2, "b": 2, "c": 4}, 15.0) == {"a"}
    assert cost.exceeding({"a": 2, "b": 2, "c": 4}, 12.0) == {"a", "b", "c"}
    assert Maximum.of([]).at({}) == 0.0


def test_the_slope_is_that_of_the_largest() -> None:
    cost = DifferentiableCost(Maximum.of([Polynomial({("a",): 10.0}), Polynomial({("b", "b"): 1.0})]), ["a", "b"])
    for values, value, slope in (((2.0, 3.0), 20.0, [10.0, 0.0]), ((2.0, 5.0), 25.0, [0.0, 10.0])):
        widths = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        found = cost(widths)
        found.backward()
        assert found.item() == value
        assert widths.grad is not None
        assert widths.grad.tolist() == slope


def test_uniform_goes_on_with_what_does_not_limit() -> None:
    """10 (a + b) and 4 (c + d), at most 60: 3 of a and b each; c and d are whole but for their own limit of 7.5."""
    goal = worst(dict.fromkeys("abcd", 10), {("a",): 10.0, ("b",): 10.0}, {("c",): 4.0, ("d",): 4.0})
    assert uniform(goal, 60.0) == {"a": 3, "b": 3, "c": 7, "d": 7}
    assert uniform(goal, 100.0) == {"a": 5, "b": 5, "c": 10, "d": 10}
    assert uniform(goal, 200.0) == goal.full


def test_rescaled_widths_leave_what_does_not_limit() -> None:
    """10 a and 4 b, from 10 and 10."""
    goal, logs = worst({"a": 20, "b": 20}, {("a",): 10.0}, {("b",): 4.0}), dict.fromkeys("ab", math.log(10.0))
    assert rescale(logs, goal, 50.0) == pytest.approx({"a": 5.0, "b": 10.0})
    assert rescale(logs, goal, 30.0) == pytest.approx({"a": 3.0, "b": 7.5})
    assert rescale(logs, goal, 150.0) == pytest.approx({"a": 15.0, "b": 15.0})


def test_repair_spends_what_costs_nothing() -> None:
    """10 a and 4 b: b grows until it would be the largest, or is whole."""
    goal = worst({"a": 20, "b": 20}, {("a",): 10.0}, {("b",): 4.0})
    assert repair({"a": 4.6, "b": 7.2}, goal, 50.0) == {"a": 5, "b": 12}
    assert repair({"a": 9.9, "b": 7.2}, goal, 95.0) == {"a": 9, "b": 20}
    assert repair({"a": 6.0, "b": 2.2}, goal, 50.0) == {"a": 5, "b": 12}


def test_what_costs_nothing_is_given_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not unit by unit, of which there may be many."""
    goal, asked, at = worst({"a": 20, "b": 10_000}, {("a",): 10.0}, {("b",): 1e-3}), [0], Maximum.at

    def counted(cost: Maximum, widths: dict[str, float]) -> float:
        asked[0] += 1
        return at(cost, widths)

    monkeypatch.setattr(Maximum, "at", counted)
    assert repair({"a": 4.6, "b": 7.2}, goal, 50.0) == {"a": 5, "b": 10_000}
    assert asked[0] < 100


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_repair_of_the_largest_of_several_wastes_nothing(share: float) -> None:
    """Every choice of four widths is tried: no single step fits any more, and nothing cheaper would be as near."""
    full = {"a": 8, "b": 7, "c": 6, "d": 5}
    parts: list[dict[tuple[str, ...], float]] = [{("a",): 3.0, ("b",): 5.0}, {("b",): 2.0, ("c",): 7.0}]
    goal = worst(full, *parts, {("c",): 3.0, ("d",): 4.0})
    target = share * goal.original
    choices = itertools.product(*(range(1, size + 1) for size in full.values()))
    costs = [goal.at(dict(zip(full, widths, strict=True))) for widths in choices]
    real = rescale({name: math.log(0.6 * size) for name, size in full.items()}, goal, target)
    widths = repair(real, goal, target)
    assert goal.at(widths) <= target
    assert all(goal.at(trial) > target for trial in larger(goal, widths))
    assert goal.at(widths) >= max(cost for cost in costs if cost <= target) - 2.0
