"""Statistics that divide by n − 1 need two elements: the smallest width of what they are taken over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from laws import check_laws
from samples import apply, linear
from torch import Tensor

import shrinkspeech
from shrinkspeech.axes.algebra import Fixed, Label, product
from shrinkspeech.axes.unifier import Unifier
from shrinkspeech.errors import BudgetError, SliceError
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.groups.label import label

A = {"a": linear(6, 8), "b": linear(8, 2)}


def normalised(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b((y - y.mean(-1, keepdim=True)) / (y.std(-1, keepdim=True) + 1e-3))


def over_time(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y / (y.var((1, 2), keepdim=True) + 1e-3))


@pytest.mark.parametrize(
    ("forward", "least"),
    [
        (normalised, 2),
        (over_time, 1),
        (lambda m, x: m.b(m.a(x) * m.a(x).var(-1, correction=0, keepdim=True)), 1),
        (lambda m, x: m.b(m.a(x) * m.a(x).var(-1, correction=3, keepdim=True)), 4),
        (lambda m, x: m.b(m.a(x) * m.a(x).unflatten(-1, (2, 4)).var((-1, -2)).unsqueeze(-1)), 1),
    ],
    ids=["std", "over_time", "biased", "correction", "two_axes"],
)
def test_the_smallest_width_keeps_a_statistic_finite(forward: Any, least: int) -> None:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(apply(forward, **A)(), (torch.randn(2, 7, 6),))
    groups = label(captured)
    smallest = {group.name: group.min_width for group in groups.shrinkable}
    assert max(smallest.values()) == least or len(smallest) > 1
    checked = check_laws(captured, widths=smallest)
    assert checked.sliced is not None
    assert bool(torch.isfinite(checked.sliced.graph_module(*captured.example_inputs)).all())
    if least > 1:
        with pytest.raises(SliceError, match=f"at least {least} of them must be kept"):
            shrinkspeech.slice(captured, groups, dict.fromkeys(smallest, 1))


def test_a_fit_stops_at_the_smallest_width() -> None:
    """Of eight units two must stay, a quarter of the FLOP/s: what is less is refused, what is more stays finite."""
    torch.manual_seed(0)
    inputs = (torch.randn(2, 7, 6),)
    captured = shrinkspeech.capture(apply(normalised, **A)(), inputs)
    recipe = Recipe(train_batches=lambda: iter([inputs] * 2), loss=None, inputs=lambda batch: batch)
    fitted = shrinkspeech.fit(captured, recipe, "26%", steps=8)
    assert fitted.widths == {"a": 2}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in fitted.captured.parameters().values())
    with pytest.raises(BudgetError, match=r"cannot be reached.*\(25\.00% of the original\)"):
        shrinkspeech.fit(captured, recipe, "20%", steps=8)


def test_a_deviation_of_one_unit_has_a_gradient_of_zero() -> None:
    """Biased, one unit may be left: its deviation is 0, where the slope of a root has no number."""
    torch.manual_seed(0)
    model = apply(lambda m, x: m.b(m.a(x) * m.a(x).std(-1, correction=0, keepdim=True)), **A)()
    captured = shrinkspeech.capture(model, (torch.randn(2, 7, 6),))
    gated = shrinkspeech.gate(captured, label(captured)).train()
    gated.widths.set({"a": 1})
    gated(*captured.example_inputs).sum().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in gated.parameters())


def test_a_demand_follows_substitution() -> None:
    unifier = Unifier()
    whole, half = unifier.fresh(8), unifier.fresh(4)
    assert isinstance(whole, Label)
    assert isinstance(half, Label)
    unifier.at_least(whole, 3)
    assert unifier.lowest(whole) == 3
    unifier.unify(whole, product(Fixed(2), half), "")
    assert unifier.lowest(half) == 2, "two times two are three at least"
    other = unifier.fresh(4)
    assert isinstance(other, Label)
    unifier.unify(half, other, "")
    [left] = {x for x in (half, other) if unifier.resolve(x) == x}
    assert unifier.lowest(left) == 2


def test_an_axis_that_is_long_enough_demands_nothing() -> None:
    unifier = Unifier()
    some = unifier.fresh(8)
    assert isinstance(some, Label)
    unifier.at_least(product(Fixed(5), some), 2)
    assert unifier.lowest(some) == 1
