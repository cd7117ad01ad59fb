"""What is read from axes, and what becomes of axes that meet, case by case: nothing freezes that need not, the reasons stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axis_case import Case

from shrinkspeech.axes.algebra import (
    ONE,
    Axis,
    Fixed,
    Label,
    Product,
    Sum,
    concat,
    kept_index,
    labels_of,
    product,
    width,
)


@pytest.fixture
def case() -> Case:
    return Case()


# -- normal forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [product, concat])
def test_neighbours_that_are_fixed_become_one_with_the_first_reason(join: Callable[..., Axis]) -> None:
    size = 6 if join is product else 5
    for reasons, wanted in ((("a", "b"), "a"), (("", "b"), "b"), (("a", ""), "a")):
        found = join(Fixed(2, reasons[0]), Fixed(3, reasons[1]))
        assert found == Fixed(size)
        assert isinstance(found, Fixed)
        assert found.why == wanted
    label = Label(1, 4)
    assert join(Fixed(2), label, Fixed(3)) == (Product if join is product else Sum)((Fixed(2), label, Fixed(3)))


def test_what_changes_nothing_is_dropped() -> None:
    label, one, none = Label(1, 4), Label(2, 1), Label(3, 0)
    assert product(Fixed(1), label, Fixed(1)) == product(ONE, label) == label
    assert product() == product(Fixed(1)) == Fixed(1)
    assert product(label, one) == Product((label, one))
    assert concat(Fixed(0), label, Fixed(0)) == label
    assert concat() == concat(Fixed(0)) == Fixed(0)
    assert concat(label, none) == Sum((label, none))
    assert product(product(label, Fixed(2)), Fixed(3)) == Product((label, Fixed(6)))
    assert concat(concat(label, Fixed(2)), Fixed(3)) == Sum((label, Fixed(5)))
    assert product(concat(label, Fixed(2)), Fixed(3)) == Product((Sum((label, Fixed(2))), Fixed(3)))
    assert concat(product(label, Fixed(2)), Fixed(3)) == Sum((Product((label, Fixed(2))), Fixed(3)))


def test_labels_are_told_in_order_and_again_where_they_occur_again() -> None:
    a, b = Label(1, 2), Label(2, 3)
    assert list(labels_of(Sum((Product((a, Fixed(2), b)), a)))) == [a, b, a]
    assert list(labels_of(Fixed(3))) == []


def test_width_and_kept_positions_by_hand() -> None:
    """(a × 2) + b of 3 and 2 units, of which units 0, 2 and 1 are kept."""
    a, b = Label(1, 3), Label(2, 2)
    axis = Sum((Product((a, Fixed(2))), b))
    kept = {a: [0, 2], b: [1]}
    assert kept_index(axis, kept.__getitem__) == [0, 1, 4, 5, 7]
    assert kept_index(Product((Fixed(2), a)), kept.__getitem__) == [0, 2, 3, 5]
    assert width(axis, lambda label: {a: 1.5, b: 0.5}[label]) == 3.5


# -- two axes meet ------------------------------------------------------------------------------------------------


def test_labels_that_meet_are_one(case: Case) -> None:
    a, b, c = case.label(4), case.label(4), case.label(4)
    case.unifier.unify(a, b, "add")
    case.unifier.unify(b, c, "add")
    assert case.same(a, c)
    assert case.now(a) == "4"


def test_a_label_that_meets_what_is_fixed_freezes_with_its_reason(case: Case) -> None:
    a, b, c = case.label(4), case.label(4), case.label(4)
    case.unifier.unify(a, Fixed(4, "model input"), "add")
    case.unifier.unify(Fixed(4, "model output"), b, "add")
    case.unifier.unify(c, Fixed(4), "add")
    assert [case.reasons(x) for x in (a, b, c)] == [{"model input"}, {"model output"}, {"add"}]
    assert case.now(a) == "4!"


def test_the_first_reason_stays(case: Case) -> None:
    a = case.label(4)
    case.unifier.freeze(a, "first")
    case.unifier.freeze(a, "second")
    assert case.reasons(a) == {"first"}


def test_what_was_frozen_before_it_was_viewed_is_frozen_in_all_parts(case: Case) -> None:
    a = case.label(6)
    case.unifier.freeze(a, "model input")
    assert [case.now(part) for part in case.unifier.split(a, [2, 3], "view")] == ["2!", "3!"]


def test_axes_of_other_sizes_freeze_both(case: Case) -> None:
    a, b = case.label(4), product(case.label(2), case.label(3))
    case.unifier.unify(a, b, "add")
    assert case.reasons(a) == case.reasons(b) == {"add (sizes 4 and 6 differ)"}


def test_a_label_inside_what_it_meets_freezes(case: Case) -> None:
    """a = a₁ × a₂ is a loop: 4 units cannot be 2 of them twice."""
    a = case.label(4)
    half = case.unifier.cut(a, [2, 2], "halves")[0]
    assert isinstance(half, Label)
    case.unifier.unify(half, concat(half, Fixed(0)), "itself")
    assert case.now(a) == "2+2"
    other = case.label(2)
    case.unifier._bind(half, product(half, other), "a loop")
    assert case.reasons(half) == case.reasons(other) == {"a loop"}


def test_two_products_take_the_common_refinement(case: Case) -> None:
    """2 × 6 = 4 × 3 = 2 × 2 × 3, whichever comes first."""
    for swap in (False, True):
        a, b = product(case.label(2), case.label(6)), product(case.label(4), case.label(3))
        case.unifier.unify(*((b, a) if swap else (a, b)), "views")
        assert case.now(a) == case.now(b) == "2×2×3"
        assert case.same(a, b)


def test_two_products_without_a_common_refinement_freeze(case: Case) -> None:
    """2 × 3 = 3 × 2: 3 is no multiple of 2."""
    a, b = product(case.label(2), case.label(3)), product(case.label(3), case.label(2))
    case.unifier.unify(a, b, "views")
    assert case.now(a) == "2!×3!"
    assert case.now(b) == "3!×2!"
    assert case.reasons(a) == {"views"}


def test_of_two_products_what_comes_before_the_trouble_is_still_tied(case: Case) -> None:
    front_a, front_b = case.label(5), case.label(5)
    a = product(front_a, case.label(2), case.label(3))
    b = product(front_b, case.label(3), case.label(2))
    case.unifier.unify(a, b, "views")
    assert case.same(front_a, front_b)
    assert case.now(a) == "5×2!×3!"


def test_factors_are_tied_from_the_front_in_the_smallest_steps(case: Case) -> None:
    """2 × 9 × 2 = 4 × 9: the first factor of 2 is there in both, the rest has no common refinement."""
    a, b = product(case.label(2), case.label(9), case.label(2)), product(case.label(4), case.label(9))
    case.unifier.unify(a, b, "views")
    assert (case.now(a), case.now(b)) == ("2×9!×2!", "2×2!×9!")


def test_two_sums_take_the_common_refinement(case: Case) -> None:
    for swap in (False, True):
        a, b = concat(case.label(5), case.label(7)), concat(case.label(4), case.label(8))
        case.unifier.unify(*((b, a) if swap else (a, b)), "cat")
        assert case.now(a) == case.now(b) == "4+1+7"
        assert case.same(a, b)


@pytest.mark.parametrize("swap", [False, True])
def test_a_sum_cuts_a_product_along_its_front(case: Case, swap: bool) -> None:
    """2 + 4 = 3 × 2: the front is cut after 1 of 3, so the terms are 1 × 2 and 2 × 2."""
    a, b = concat(case.label(2), case.label(4)), product(case.label(3), Fixed(2))
    case.unifier.unify(*((b, a) if swap else (a, b)), "cat")
    assert case.now(a) == "1×[2]+2×[2]"
    assert case.now(b) == "(1+2)×[2]"
    assert list(labels_of(case.unifier.resolve(a))) == list(labels_of(case.unifier.resolve(b)))


def test_a_sum_that_cuts_a_product_inside_freezes_both(case: Case) -> None:
    """3 + 3 = 3 × 2: the cut falls between the two elements of a front."""
    a, b = concat(case.label(3), case.label(3)), product(case.label(3), case.label(2))
    case.unifier.unify(a, b, "cat")
    assert case.now(a) == "3!+3!"
    assert case.now(b) == "3!×2!"
    assert case.reasons(a) == {"cat"}


def test_of_two_sums_what_comes_before_the_trouble_is_still_tied(case: Case) -> None:
    front_a, front_b = case.label(5), case.label(5)
    a = concat(front_a, case.label(3), case.label(3))
    b = concat(front_b, product(case.label(3), case.label(2)))
    case.unifier.unify(a, b, "cat")
    assert case.same(front_a, front_b)
    assert case.now(a) == "5+3!+3!"


# -- what is no group, and how much must stay ---------------------------------------------------------------------


def test_taps_of_a_kernel_are_no_group(case: Case) -> None:
    a, b = case.label(3), product(case.label(2), case.label(3))
    fixed = case.unifier.fix(a, "taps")
    assert fixed == case.unifier.resolve(a) == Fixed(3)
    assert isinstance(fixed, Fixed)
    assert fixed.why == "taps"
    assert case.now(case.unifier.fix(b, "taps")) == "2!×3!"
    assert case.reasons(b) == {"taps"}


def test_a_fresh_axis_of_one_or_none_is_fixed(case: Case) -> None:
    assert [case.now(case.unifier.fresh(size)) for size in (0, 1, 2)] == ["[0]", "[1]", "2"]


def test_the_largest_labels_answer_for_how_much_must_stay(case: Case) -> None:
    small, large = case.label(3), case.label(4)
    assert case.unifier.lowest(large) == 1
    case.unifier.at_least(product(small, large), 3)
    assert (case.unifier.lowest(small), case.unifier.lowest(large)) == (1, 3)
    case.unifier.at_least(product(small, large), 2)
    assert (case.unifier.lowest(small), case.unifier.lowest(large)) == (1, 3)
    case.unifier.at_least(product(small, large), 7)
    assert (case.unifier.lowest(small), case.unifier.lowest(large)) == (2, 4)
    case.unifier.at_least(product(small, large), 100)
    assert (case.unifier.lowest(small), case.unifier.lowest(large)) == (3, 4)


def test_how_much_must_stay_goes_with_the_label(case: Case) -> None:
    a, b = case.label(6), case.label(6)
    case.unifier.at_least(a, 2)
    case.unifier.unify(a, b, "add")
    assert case.unifier.lowest(b) == 2
    front, back = case.unifier.split(b, [2, 3], "view")
    assert isinstance(front, Label)
    assert isinstance(back, Label)
    assert (case.unifier.lowest(front), case.unifier.lowest(back)) == (1, 2)


def test_one_element_must_stay_of_whatever_has_been_viewed_or_merged(case: Case) -> None:
    a, b, c = case.label(6), case.label(6), case.label(6)
    case.unifier.unify(a, b, "add")
    case.unifier.unify(c, product(*case.unifier.split(b, [2, 3], "view")), "add")
    case.unifier.cut(case.label(4), [2, 2], "chunk")
    for axis in (a, b, c):
        assert [case.unifier.lowest(label) for label in labels_of(case.unifier.resolve(axis))] == [1, 1]
