"""Budgets: reading them, and whole widths that meet them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkspeech.budget.widths import Space, human, parse_budget, reach, repair, shifted, uniform
from shrinkspeech.errors import BudgetError
from shrinkspeech.groups.cost import Polynomial


def chain(sizes: list[int], step: int = 1, lowest: int = 1) -> Space:
    """A stack of dense layers: 10 inputs, the given widths, 3 outputs; 2 operations for each weight."""
    names = [f"g{i}" for i in range(len(sizes))]
    terms: dict[tuple[str, ...], float] = {(names[0],): 20.0}
    for a, b in itertools.pairwise(names):
        terms[(a, b)] = 2.0
    terms[(names[-1],)] = terms.get((names[-1],), 0.0) + 6.0
    full = dict(zip(names, sizes, strict=True))
    return Space(Polynomial(terms), full, dict.fromkeys(names, lowest), dict.fromkeys(names, step))


@pytest.mark.parametrize(
    ("text", "amount"),
    [("25%", 250.0), ("0.25x", 250.0), ("600", 600.0), ("0.6k", 600.0), (600, 600.0), ("6e2", 600.0), ("100%", 1000.0)],
)
def test_parse(text: str | float, amount: float) -> None:
    assert parse_budget(text).resolve(1000.0) == pytest.approx(amount)


@pytest.mark.parametrize(("text", "amount"), [("600k", 6e5), ("1.2M", 1.2e6), ("3G", 3e9)])
def test_units(text: str, amount: float) -> None:
    assert parse_budget(text).value == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "small", "-5", "0", "25%%", "1.2Q", "nan", "25 % of it"])
def test_unreadable(text: str) -> None:
    with pytest.raises(BudgetError, match="cannot read the target"):
        parse_budget(text)


def test_above_the_original() -> None:
    with pytest.raises(BudgetError, match="above the original's 1k"):
        parse_budget("2k").resolve(1000.0)


def test_out_of_reach_says_what_can_be_reached() -> None:
    space = chain([64, 64], lowest=16)
    with pytest.raises(BudgetError, match=rf"{human(space.smallest)} FLOP/s \("):
        reach(space, 0.5 * space.smallest)
    reach(space, space.smallest)


@pytest.mark.parametrize(("amount", "text"), [(24_389_076, "24.4M"), (999, "999"), (999_700, "1M"), (600_000, "600k")])
def test_human(amount: float, text: str) -> None:
    assert human(amount) == text


@given(
    sizes=st.lists(st.integers(8, 96), min_size=2, max_size=6),
    shares=st.lists(st.floats(0.05, 1.0), min_size=6, max_size=6),
    step=st.sampled_from([1, 4]),
)
def test_repair_never_exceeds_the_target_and_wastes_little(sizes: list[int], shares: list[float], step: int) -> None:
    space = chain(sizes, step)
    real = {name: max(1.0, share * space.full[name]) for name, share in zip(space.full, shares, strict=False)}
    target = space.at(real)
    widths = repair(real, space, max(target, space.smallest))
    cost = space.at(widths)
    assert cost <= max(target, space.smallest) * (1 + 1e-9)
    for name, width in widths.items():
        assert space.lowest[name] <= width <= space.full[name]
        assert width % step == 0 or width in (space.full[name], space.lowest[name])
    larger = [{**widths, name: space.above(name, width)} for name, width in widths.items() if width < space.full[name]]
    assert all(space.at(trial) > target for trial in larger), "something more would have fitted"


def test_repair_keeps_to_the_real_widths() -> None:
    space = chain([100, 100, 100])
    real = {"g0": 20.4, "g1": 80.6, "g2": 40.0}
    widths = repair(real, space, space.at(real))
    assert all(abs(widths[name] - real[name]) <= 3 for name in real)
    assert space.at(widths) >= 0.98 * space.at(real)


@given(sizes=st.lists(st.integers(8, 96), min_size=2, max_size=5), share=st.floats(0.1, 1.0))
def test_uniform_is_the_largest_equal_share(sizes: list[int], share: float) -> None:
    space = chain(sizes)
    target = max(share * space.at(space.full), space.smallest)
    widths = uniform(space, target)
    assert space.at(widths) <= target * (1 + 1e-9)
    kept = min(width / space.full[name] for name, width in widths.items())
    bigger = {name: min(size, int(size * (kept + 2.5 / size)) + 1) for name, size in space.full.items()}
    assert widths == space.full or space.at(bigger) > target


@given(share=st.floats(0.05, 0.95))
def test_shifted_widths_cost_exactly_the_target(share: float) -> None:
    space = chain([64, 48, 32])
    target = space.smallest + share * (space.at(space.full) - space.smallest)
    found = shifted({"g0": 3.0, "g1": 2.0, "g2": 3.3}, space, target)
    assert space.at(found) == pytest.approx(target, rel=1e-6)
