"""The algebra of axes against brute force; nothing here knows a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shrinkspeech.axes.algebra import (
    Axis,
    Fixed,
    Label,
    Product,
    Sum,
    concat,
    factors_of,
    kept_index,
    labels_of,
    product,
    terms_of,
    width,
)
from shrinkspeech.axes.unifier import Unifier

Kept = dict[int, list[int]]
Unit = tuple[tuple[int, int], ...]
MANY = settings(max_examples=4 * settings().max_examples)
"""The algebra is cheap: more examples than elsewhere."""
labels = st.builds(lambda key: Label(key, 2 + key % 3), st.integers(1, 6))
fixed = st.builds(Fixed, st.integers(1, 3))
axes = st.recursive(
    labels | fixed,
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda parts: st.sampled_from((product(*parts), concat(*parts)))
    ),
    max_leaves=5,
)


@st.composite
def kept_units(draw: st.DrawFn) -> Kept:
    """Units of each of the labels above, at least one each."""
    return {key: sorted(draw(st.sets(st.integers(0, 1 + key % 3), min_size=1))) for key in range(1, 7)}


def mask(axis: Axis, kept: Kept) -> list[bool]:
    """For each element of an axis whether it remains, by the definition."""
    match axis:
        case Fixed(size=size):
            return [True] * size
        case Label(id=key, size=size):
            return [unit in kept[key] for unit in range(size)]
        case Product(factors=parts):
            result = [True]
            for part in parts:
                result = [a and b for a in result for b in mask(part, kept)]
            return result
        case Sum(terms=parts):
            return [value for part in parts for value in mask(part, kept)]


def positions(flags: Sequence[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


@MANY
@given(axes, kept_units())
def test_kept_index_and_width_follow_the_definition(axis: Axis, kept: Kept) -> None:
    expected = positions(mask(axis, kept))
    assert kept_index(axis, lambda label: kept[label.id]) == expected
    assert width(axis, lambda label: len(kept[label.id])) == len(expected)


@MANY
@given(st.lists(axes, max_size=4))
def test_normal_forms_keep_the_size(parts: list[Axis]) -> None:
    assert product(*parts).size == math.prod(part.size for part in parts)
    assert concat(*parts).size == sum(part.size for part in parts)
    assert not any(isinstance(factor, Product) for factor in factors_of(product(*parts)))
    assert not any(isinstance(term, Sum) for term in terms_of(concat(*parts)))


def grouped(a: Axis, b: Axis) -> tuple[Unifier, Axis, Axis]:
    """Unify two axes and return what they have become."""
    unifier = Unifier()
    unifier._next = 100
    unifier.unify(a, b, "they meet")
    return unifier, unifier.resolve(a), unifier.resolve(b)


def free(unifier: Unifier, axis: Axis) -> list[Label]:
    return [label for label in labels_of(axis) if unifier.frozen(label) is None]


@MANY
@given(axes, axes)
def test_unified_axes_are_equal_or_frozen(a: Axis, b: Axis) -> None:
    unifier, x, y = grouped(a, b)
    assert (x.size, y.size) == (a.size, b.size)
    assert unifier.resolve(x) == x
    assert a.size != b.size or tied(unifier, x) == tied(unifier, y)
    assert a.size == b.size or not free(unifier, x) + free(unifier, y)


@MANY
@given(axes)
def test_equal_sizes_of_two_orders_meet(axis: Axis) -> None:
    """An axis unified with a fresh label is that axis, and nothing freezes."""
    unifier = Unifier()
    unifier._next = 100
    label = unifier.fresh(axis.size)
    frozen_before = isinstance(label, Fixed)
    unifier.unify(label, axis, "they meet")
    if not frozen_before and not isinstance(axis, Fixed):
        assert unifier.resolve(label) == axis
        assert len(free(unifier, axis)) == len(list(labels_of(axis)))


@MANY
@given(axes, axes)
def test_unification_is_symmetric(a: Axis, b: Axis) -> None:
    """Which of two axes comes first changes names only: as many units stay free, tied in the same places."""
    assume(a.size == b.size)
    one, x, _ = grouped(a, b)
    two, y, _ = grouped(b, a)
    assert pattern(one, x) == pattern(two, y)


def pattern(unifier: Unifier, axis: Axis) -> list[int]:
    """For each element the first element that is tied to it: 0 where it is not free."""
    ties: dict[Unit, int] = {}
    return [0 if not key else ties.setdefault(key, i + 1) for i, key in enumerate(tied(unifier, axis))]


def tied(unifier: Unifier, axis: Axis) -> list[Unit]:
    """For each element of an axis the free units that it belongs to: equal lists, equal fates."""
    return units(axis, {label.id for label in free(unifier, axis)})


def units(axis: Axis, free_labels: set[int]) -> list[Unit]:
    """As ``tied``, from the ids of the labels that are free."""
    match axis:
        case Fixed(size=size):
            return [()] * size
        case Label(id=key, size=size):
            return [((key, unit),) if key in free_labels else () for unit in range(size)]
        case Product(factors=parts):
            result: list[Unit] = [()]
            for part in parts:
                result = [tuple(sorted({*a, *b})) for a in result for b in units(part, free_labels)]
            return result
        case Sum(terms=parts):
            return [value for part in parts for value in units(part, free_labels)]


@MANY
@given(st.lists(axes, min_size=3, max_size=3), st.permutations(range(3)))
def test_many_unifications_end_and_agree(parts: list[Axis], order: list[int]) -> None:
    """Three axes of one size, tied in any order, are one axis or frozen; substitutions have no loops."""
    size = math.prod({part.size for part in parts})
    same = [product(part, Fixed(size // part.size)) for part in parts]
    unifier = Unifier()
    unifier._next = 100
    for i in order:
        unifier.unify(same[i], same[(i + 1) % 3], "they meet")
    found = [unifier.resolve(part) for part in same]
    assert [part.size for part in found] == [size] * 3
    assert tied(unifier, found[0]) == tied(unifier, found[1]) == tied(unifier, found[2])


@MANY
@given(axes, kept_units(), st.data())
def test_split_and_product_give_the_axis_back(axis: Axis, kept: Kept, data: st.DataObject) -> None:
    divisors = [d for d in range(1, axis.size + 1) if axis.size % d == 0]
    first = data.draw(st.sampled_from(divisors))
    unifier = Unifier()
    unifier._next = 100
    parts = unifier.split(axis, [first, axis.size // first], "a view")
    assert [part.size for part in parts] == [first, axis.size // first]
    same_elements(unifier, axis, product(*parts))


@MANY
@given(axes, st.data())
def test_cut_and_concat_give_the_axis_back(axis: Axis, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, axis.size))
    unifier = Unifier()
    unifier._next = 100
    parts = unifier.cut(axis, [first, axis.size - first], "a slice")
    assert [part.size for part in parts] == [first, axis.size - first]
    same_elements(unifier, axis, concat(*parts))


def same_elements(unifier: Unifier, before: Axis, after: Axis) -> None:
    """Whatever free units go, the same elements remain on both axes."""
    before, after = unifier.resolve(before), unifier.resolve(after)
    for gone in free(unifier, before) + free(unifier, after):
        for unit in range(gone.size):
            kept = lambda label: [u for u in range(label.size) if label != gone or u != unit]  # noqa: B023, E731
            assert kept_index(before, kept) == kept_index(after, kept)


def test_a_label_viewed_as_heads_and_cut_in_halves() -> None:
    unifier = Unifier()
    label = unifier.fresh(12)
    heads, dim = unifier.split(label, [3, 4], "a view")
    first, second = unifier.cut(dim, [2, 2], "a chunk")
    unifier.unify(first, second, "a glu")
    first = unifier.resolve(first)
    assert unifier.resolve(label) == product(heads, concat(first, first))
    assert kept_index(unifier.resolve(label), lambda found: [1]) == [5, 7]


def test_common_refinement_of_two_groupings() -> None:
    """12 = 2 × 6 = 4 × 3: both are 2 × 2 × 3."""
    unifier = Unifier()
    a = product(unifier.fresh(2), unifier.fresh(6))
    b = product(unifier.fresh(4), unifier.fresh(3))
    unifier.unify(a, b, "two groupings")
    assert [factor.size for factor in factors_of(unifier.resolve(a))] == [2, 2, 3]
    assert unifier.resolve(a) == unifier.resolve(b)
    assert len(free(unifier, unifier.resolve(a))) == 3


def test_common_refinement_of_two_cuts() -> None:
    unifier = Unifier()
    a = concat(unifier.fresh(5), unifier.fresh(7))
    b = concat(unifier.fresh(4), unifier.fresh(8))
    unifier.unify(a, b, "two cuts")
    assert [term.size for term in terms_of(unifier.resolve(a))] == [4, 1, 7]
    assert unifier.resolve(a) == unifier.resolve(b)


@pytest.mark.parametrize("swap", [False, True])
def test_frozen_reasons_survive(swap: bool) -> None:
    unifier = Unifier()
    a, b = unifier.fresh(6), unifier.fresh(6)
    unifier.freeze(a, "the output")
    unifier.unify(*((b, a) if swap else (a, b)), "they meet")
    parts = unifier.split(b, [2, 3], "a view")
    reasons = {unifier.frozen(label) for part in parts for label in labels_of(part)}
    assert reasons == {"the output"}


def test_sizes_that_differ_freeze_both_with_both_sizes_named() -> None:
    unifier = Unifier()
    a, b = unifier.fresh(6), unifier.fresh(4)
    unifier.unify(a, b, "add")
    assert {unifier.frozen(label) for label in (a, b) if isinstance(label, Label)} == {"add (sizes 6 and 4 differ)"}


def test_a_label_inside_its_own_product_freezes() -> None:
    unifier = Unifier()
    label = unifier.fresh(4)
    unifier.unify(concat(label, label), product(Fixed(2), label), "a loop")
    assert unifier.resolve(label).size == 4
    other = unifier.fresh(4)
    half = unifier.cut(other, [2, 2], "halves")[0]
    unifier.unify(product(half, Fixed(2)), other, "a loop")
    assert unifier.resolve(other).size == 4
