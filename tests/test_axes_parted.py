"""What becomes of axes that are viewed as several or cut, case by case: nothing freezes that need not, and the reasons stay."""

from __future__ import annotations

import pytest
from axis_case import Case

from shrinkspeech.axes.algebra import Fixed, concat, product


@pytest.fixture
def case() -> Case:
    return Case()


# -- views --------------------------------------------------------------------------------------------------------


def test_a_label_viewed_as_several(case: Case) -> None:
    a = case.label(24)
    parts = case.unifier.split(a, [2, 3, 4], "view")
    assert [case.now(part) for part in parts] == ["2", "3", "4"]
    assert case.now(a) == "2×3×4"


def test_ones_in_a_view_are_nobody(case: Case) -> None:
    a = case.label(6)
    parts = case.unifier.split(a, [1, 6, 1], "view")
    assert [case.now(part) for part in parts] == ["[1]", "6", "[1]"]
    assert case.now(a) == "6"


def test_what_is_fixed_is_viewed_with_its_reason(case: Case) -> None:
    parts = case.unifier.split(Fixed(6, "time"), [2, 3], "view")
    assert parts == [Fixed(2), Fixed(3)]
    assert [part.why for part in parts if isinstance(part, Fixed)] == ["time", "time"]


def test_a_product_viewed_along_and_across_its_factors(case: Case) -> None:
    a = product(case.label(2), case.label(6))
    assert [case.now(part) for part in case.unifier.split(a, [2, 6], "view")] == ["2", "6"]
    assert [case.now(part) for part in case.unifier.split(a, [4, 3], "view")] == ["2×2", "3"]
    b = product(case.label(4), case.label(3))
    assert [case.now(part) for part in case.unifier.split(b, [2, 6], "view")] == ["2", "2×3"]
    assert case.now(b) == "2×2×3"


@pytest.mark.parametrize("sizes", [[4, 3], [3, 4]])
def test_a_product_that_cannot_be_viewed_so_freezes(case: Case, sizes: list[int]) -> None:
    """2 × 3 × 2 as 4 × 3 or 3 × 4."""
    a = product(case.label(2), case.label(3), case.label(2))
    parts = case.unifier.split(a, sizes, "view")
    assert parts == [Fixed(size) for size in sizes]
    assert case.now(a) == "2!×3!×2!"
    assert case.reasons(a) == {"view"}
    assert {part.why for part in parts if isinstance(part, Fixed)} == {"view"}


@pytest.mark.parametrize("sizes", [[4, 2], [0, 6], [-1, 6]])
def test_sizes_that_do_not_divide_freeze(case: Case, sizes: list[int]) -> None:
    a = case.label(6)
    case.unifier.split(a, sizes, "view")
    assert case.reasons(a) == {"view"}


def test_a_unit_of_its_own_stays_with_the_last_part(case: Case) -> None:
    single = case.unifier.cut(case.label(3), [1, 2], "chunk")[0]
    parts = case.unifier.split(product(case.label(4), single), [2, 2], "view")
    assert [case.now(part) for part in parts] == ["2", "2×1"]


def test_equal_terms_viewed_as_one_axis_are_tied(case: Case) -> None:
    """cat(a, b) of 4 each as 2 × 4: what goes, goes from both; which of the two is addressed one by one."""
    a, b = case.label(4), case.label(4)
    parts = case.unifier.split(concat(a, b), [2, 4], "view")
    assert [case.now(part) for part in parts] == ["[2]", "4"]
    assert case.same(a, b)


def test_other_terms_viewed_as_one_axis_are_cut_first(case: Case) -> None:
    """cat(a, b) of 2 and 6 as 2 × 4: the first 4 are a and a third of b."""
    a, b = case.label(2), case.label(6)
    parts = case.unifier.split(concat(a, b), [2, 4], "view")
    assert [case.now(part) for part in parts] == ["[2]", "2+2"]
    assert case.now(b) == "2+2+2"
    assert case.same(a, case.unifier.cut(b, [2, 2, 2], "thirds")[1])


def test_terms_that_cannot_be_parted_equally_freeze(case: Case) -> None:
    """cat(a, b × c) of 2 and 2 × 3 as 2 × 4: the cut would fall inside of c."""
    axis = concat(case.label(2), product(case.label(2), case.label(3)))
    case.unifier.split(axis, [2, 4], "view")
    assert case.now(axis) == "2!+2!×3!"


# -- cuts ---------------------------------------------------------------------------------------------------------


def test_a_label_cut_in_pieces(case: Case) -> None:
    a = case.label(6)
    assert [case.now(part) for part in case.unifier.cut(a, [1, 3, 2], "chunk")] == ["1", "3", "2"]
    assert case.now(a) == "1+3+2"


def test_what_is_fixed_is_cut_with_its_reason(case: Case) -> None:
    parts = case.unifier.cut(Fixed(6, "time"), [2, 4], "chunk")
    assert parts == [Fixed(2), Fixed(4)]
    assert [part.why for part in parts if isinstance(part, Fixed)] == ["time", "time"]


def test_a_product_is_cut_along_its_front(case: Case) -> None:
    a = product(case.label(5), case.label(3))
    first, second = case.unifier.cut(a, [6, 9], "chunk")
    assert (case.now(first), case.now(second)) == ("2×3", "3×3")
    assert case.now(a) == "(2+3)×3"


@pytest.mark.parametrize("size", [4, 8])
def test_a_product_that_is_cut_inside_freezes(case: Case, size: int) -> None:
    a = product(case.label(5), case.label(3))
    assert case.unifier.cut(a, [size, 15 - size], "chunk") == [Fixed(size), Fixed(15 - size)]
    assert case.reasons(a) == {"chunk"}


def test_a_sum_is_cut_between_and_inside_its_terms(case: Case) -> None:
    a = concat(case.label(3), case.label(4), case.label(5))
    parts = case.unifier.cut(a, [3, 9], "chunk")
    assert [case.now(part) for part in parts] == ["3", "4+5"]
    parts = case.unifier.cut(a, [5, 7], "chunk")
    assert [case.now(part) for part in parts] == ["3+2", "2+5"]
    parts = case.unifier.cut(a, [0, 12, 0], "chunk")
    assert [case.now(part) for part in parts] == ["[0]", "3+2+2+5", "[0]"]


def test_a_cut_that_fails_behind_the_first_term_freezes_all(case: Case) -> None:
    a = concat(case.label(3), product(case.label(4), case.label(3)))
    case.unifier.cut(a, [7, 8], "chunk")
    assert case.now(a) == "3!+4!×3!"


def test_a_product_whose_front_cannot_be_cut_freezes(case: Case) -> None:
    """(2 + 2 × 3) × 2 after 3 of the front: inside of the 2 × 3."""
    a = product(concat(case.label(2), product(case.label(2), case.label(3))), Fixed(2))
    assert case.unifier.cut(a, [6, 10], "chunk") == [Fixed(6), Fixed(10)]
    assert case.now(a) == "(2!+2!×3!)×[2]"


def test_a_cut_beyond_the_end_of_what_is_fixed_says_so(case: Case) -> None:
    parts = case.unifier.cut(Fixed(6, "time"), [2, 5], "chunk")
    assert [part.why for part in parts if isinstance(part, Fixed)] == ["chunk", "chunk"]


def test_a_cut_beyond_the_end_freezes(case: Case) -> None:
    a = case.label(6)
    assert case.unifier.cut(a, [4, 4], "chunk") == [Fixed(4), Fixed(4)]
    assert case.reasons(a) == {"chunk"}
    b = case.label(6)
    case.unifier.cut(b, [-2, 8], "chunk")
    assert case.reasons(b) == {"chunk"}
    c = case.label(6)
    assert case.unifier.cut(c, [6, 1], "chunk") == [Fixed(6), Fixed(1)]
    assert case.reasons(c) == {"chunk"}
