"""The order in which units go: from scores, among those that are left, and as the gates follow it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shrinkspeech.surgery.ranks import Ranks

scores = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def test_without_scores_the_last_unit_goes_first() -> None:
    assert Ranks.ascending({"a": 4, "b": 2}).best({"a": 2, "b": 1}) == {"a": [0, 1], "b": [0]}


def test_of_equal_scores_the_last_unit_goes_first() -> None:
    ranks = Ranks.ascending({"a": 4, "b": 2}).with_scores({"a": torch.tensor([1.0, 2.0, 1.0, 2.0])})
    assert ranks.places["a"] == [2, 0, 3, 1]
    assert list(ranks.places["b"]) == [0, 1]


@given(scores=scores, data=st.data())
def test_best_are_those_of_highest_score(scores: list[int], data: st.DataObject) -> None:
    width = data.draw(st.integers(0, len(scores)))
    ranks = Ranks.ascending({"a": len(scores)}).with_scores({"a": torch.tensor(scores)})
    [kept] = ranks.best({"a": width}).values()
    assert kept == sorted(kept)
    assert sorted((scores[unit] for unit in kept), reverse=True) == sorted(scores, reverse=True)[:width]


@given(scores=scores, data=st.data())
def test_the_order_among_some_units_is_that_among_all(scores: list[int], data: st.DataObject) -> None:
    units = sorted(data.draw(st.sets(st.sampled_from(range(len(scores))))))
    ranks = Ranks.ascending({"a": len(scores)}).with_scores({"a": torch.tensor(scores)})
    some = ranks.among({"a": units}).places["a"]
    assert sorted(some) == list(range(len(units)))
    assert sorted(units, key=lambda unit: some[units.index(unit)]) == sorted(units, key=ranks.places["a"].__getitem__)


def test_a_group_without_ranks_is_refused() -> None:
    with pytest.raises(KeyError):
        Ranks.ascending({"a": 2}).best({"b": 1})
