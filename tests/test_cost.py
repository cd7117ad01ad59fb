"""The polynomial of the cost, by hand and as an algebra."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import shrinkspeech
from shrinkspeech.axes.algebra import Axis, Fixed, Label, Product, Sum
from shrinkspeech.groups.cost import ONE, ZERO, Cost, DifferentiableCost, Maximum, Polynomial, count, polynomial
from shrinkspeech.groups.groups import Group, Groups

names = st.sampled_from("abc")
terms = st.dictionaries(st.lists(names, max_size=3).map(lambda key: tuple(sorted(key))), st.integers(-4, 4), max_size=4)
polynomials = terms.map(lambda found: Polynomial({key: float(value) for key, value in found.items()}))
widths = st.fixed_dictionaries({name: st.integers(0, 5) for name in "abc"})


@given(p=polynomials, q=polynomials, at=widths, factor=st.integers(-3, 3))
def test_sums_products_and_multiples_are_those_of_the_values(
    p: Polynomial, q: Polynomial, at: Any, factor: int
) -> None:
    assert (p + q).at(at) == p.at(at) + q.at(at)
    assert (p * q).at(at) == p.at(at) * q.at(at)
    assert p.scale(factor).at(at) == factor * p.at(at)
    assert (p + ZERO).at(at) == (p * ONE).at(at) == p.at(at)
    assert (p * ZERO).terms == {}


def test_a_product_by_hand() -> None:
    """(2a + 3)(a + b) = 2a² + 2ab + 3a + 3b; the names of a monomial are in order."""
    p, q = Polynomial({("a",): 2.0, (): 3.0}), Polynomial({("a",): 1.0, ("b",): 1.0})
    found = (q * p).terms
    assert found == {("a", "a"): 2.0, ("a", "b"): 2.0, ("a",): 3.0, ("b",): 3.0}
    assert (p * q).at({"a": 2.0, "b": 0.5}) == 7.0 * 2.5
    assert (p * q + p).terms[("a",)] == 5.0


def test_which_groups_take_part() -> None:
    p = Polynomial({("a", "b"): 1.0, (): 2.0})
    assert [p.involves(name) for name in "abc"] == [True, True, False]


def test_numbers_in_the_place_of_widths_by_hand() -> None:
    """3ab + 2a + b² + 5 at a = 4: 12b + 8 + b² + 5."""
    p = Polynomial({("a", "b"): 3.0, ("a",): 2.0, ("b", "b"): 1.0, (): 5.0})
    assert p.fix({"a": 4.0, "c": 9.0}).terms == {("b",): 12.0, (): 13.0, ("b", "b"): 1.0}
    assert p.fix({}).terms == p.terms
    assert p.fix({"a": 4.0, "b": 2.0}).terms == {(): 24.0 + 13.0 + 4.0}


def test_what_limits_a_polynomial_is_all_of_it() -> None:
    p = Polynomial({("a", "b"): 1.0, (): 2.0})
    assert p.exceeding({"a": 2.0, "b": 3.0}, 7.9) == {"a", "b"}
    assert p.exceeding({"a": 2.0, "b": 3.0}, 8.0) == frozenset()


def test_a_maximum_by_hand() -> None:
    """2a + 1, 3b and a + b: the largest one counts, and limits its own groups alone."""
    parts = [Polynomial({("a",): 2.0, (): 1.0}), Polynomial({("b",): 3.0}), Polynomial({("a",): 1.0, ("b",): 1.0})]
    largest = Maximum.of(parts)
    assert len(largest.parts) == 3
    for a, b in ((1.0, 0.0), (0.0, 2.0), (5.0, 5.0), (2.0, 2.0)):
        assert largest.at({"a": a, "b": b}) == max(2 * a + 1, 3 * b, a + b)
    assert largest.exceeding({"a": 4.0, "b": 1.0}, 8.0) == {"a"}
    assert largest.exceeding({"a": 1.0, "b": 3.0}, 8.0) == {"b"}
    assert largest.exceeding({"a": 4.0, "b": 3.0}, 6.0) == {"a", "b"}
    assert largest.exceeding({"a": 4.0, "b": 3.0}, 9.0) == frozenset()
    assert largest.fix({"a": 2.0}) == Maximum(
        (Polynomial({(): 5.0}), Polynomial({("b",): 3.0}), Polynomial({(): 2.0, ("b",): 1.0}))
    )


def test_a_maximum_forgets_what_is_nowhere_above_another() -> None:
    small, large, other = (
        Polynomial({("a",): 1.0, (): 2.0}),
        Polynomial({("a",): 1.0, (): 2.0, ("b",): 1.0}),
        Polynomial({("b",): 2.0}),
    )
    for parts in itertools.permutations([small, large, other, large]):
        assert set(map(str, Maximum.of(parts).parts)) == {str(large), str(other)}
        assert len(Maximum.of(parts).parts) == 2
    assert Maximum.of([]).parts == (ZERO,)
    assert Maximum.of([ZERO, ZERO]).parts == (ZERO,)


GROUPS = Groups(
    {
        "a": Group("a", Label(1, 4)),
        "b": Group("b", Label(2, 6)),
        "still": Group("still", Label(3, 5), frozen="model input"),
    },
    {},
    {},
    {},
)


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        (Fixed(7), {(): 7.0}),
        (Label(1, 4), {("a",): 1.0}),
        (Label(3, 5), {(): 5.0}),
        (Product((Fixed(3), Label(2, 6))), {("b",): 3.0}),
        (Product((Label(1, 4), Label(1, 4))), {("a", "a"): 1.0}),
        (Sum((Label(1, 4), Fixed(2), Label(1, 4), Label(3, 5))), {("a",): 2.0, (): 7.0}),
        (Product((Fixed(2), Sum((Label(1, 4), Fixed(3))))), {("a",): 2.0, (): 6.0}),
    ],
    ids=["fixed", "label", "frozen", "multiple", "square", "sum", "product of a sum"],
)
def test_the_width_of_an_axis(axis: Axis, wanted: dict[tuple[str, ...], float]) -> None:
    found = polynomial(axis, GROUPS).terms
    assert {key: value for key, value in found.items() if value} == wanted


COST = Cost(
    {
        "first": Polynomial({("a",): 10.0}),
        "second": Polynomial({("a", "b"): 2.0}),
        "third": Polynomial({(): 12.0, ("b",): 3.0}),
    },
    {"norm": Polynomial({("a",): 100.0})},
    {"a": 4, "b": 6, "still": 5},
    {"a": 1, "b": 2, "still": 5},
)


def test_totals_and_shares_by_hand() -> None:
    """Whole: 40 + 48 + 12 + 18 = 118."""
    assert COST.original == 118.0
    assert COST.at({"a": 2}) == 20 + 24 + 12 + 18
    assert COST.at({}) == 118.0
    assert COST.share("a") == pytest.approx(88 / 118)
    assert COST.share("b") == pytest.approx((48 + 30) / 118)
    assert COST.share("still") == 0.0
    assert COST.shrinkable_share == pytest.approx(106 / 118)


def test_what_goes_with_a_group_alone_and_with_all_by_hand() -> None:
    """With a = 1: 10 + 12 + 12 + 18 = 52; with b = 2: 40 + 16 + 12 + 6 = 74; with both 10 + 4 + 12 + 6 = 32."""
    assert COST.alone("a") == pytest.approx(66 / 118)
    assert COST.alone("b") == pytest.approx(44 / 118)
    assert COST.alone("still") == 0.0
    assert COST.removable_share == pytest.approx(86 / 118)


def test_a_model_that_costs_nothing_has_no_shares() -> None:
    empty = Cost({}, {}, {"a": 4}, {"a": 1})
    assert (empty.original, empty.share("a"), empty.shrinkable_share, empty.alone("a")) == (0.0, 0.0, 0.0, 0.0)


def test_the_cost_as_a_tensor_by_hand() -> None:
    """F = 12 + 10a + 3b + 2ab + a²b: its value and slopes at real widths, in the order of the names."""
    total = Polynomial({(): 12.0, ("a",): 10.0, ("b",): 3.0, ("a", "b"): 2.0, ("a", "a", "b"): 1.0})
    at = torch.tensor([0.5, 3.0], requires_grad=True)  # b, a
    value = DifferentiableCost(total, ["b", "a"])(at)
    assert value.dtype == torch.float64
    assert float(value.detach()) == 12 + 30 + 1.5 + 3 + 4.5
    value.backward()
    assert at.grad is not None
    assert at.grad.tolist() == [3 + 2 * 3 + 9, 10 + 2 * 0.5 + 2 * 3 * 0.5]
    largest = DifferentiableCost(Maximum((total, Polynomial({("b",): 100.0}))), ["b", "a"])
    assert float(largest(torch.tensor([0.5, 3.0]))) == 51.0
    assert float(largest(torch.tensor([1.0, 3.0]))) == 100.0
    nothing = DifferentiableCost(ZERO, ["a"])(torch.tensor([3.0]))
    assert float(nothing) == 0.0


def test_one_second_of_one_item_is_counted() -> None:
    """Three items of half a second: 2 · 3 · 8 · 5 operations at each of 20 places, in each item and each half second."""
    captured = shrinkspeech.capture(nn.Conv1d(3, 8, 5), (torch.randn(3, 3, 24),))
    cost = count(captured, shrinkspeech.label(captured), seconds=0.5)
    assert math.isclose(cost.original, 2 * 3 * 8 * 5 * 20 / 0.5)


def test_norms_are_counted_apart() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2)).eval()
    captured = shrinkspeech.capture(model, (torch.randn(2, 7, 3),))
    cost = count(captured, shrinkspeech.label(captured))
    [extra] = cost.extra.values()
    assert cost.original == 2 * 7 * (3 * 8 + 8 * 2)
    [(key, value)] = [(key, value) for key, value in extra.terms.items() if value]
    assert key == ("0",)
    assert value > 0
    assert sorted(cost.full.values()) == [2, 3, 8]
    assert sorted(cost.lowest.values()) == [1, 2, 3], "what is frozen keeps its size"
