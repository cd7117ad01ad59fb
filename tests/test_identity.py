"""What tells one fit from another, and how often its state is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from shrinkspeech.errors import InputError
from shrinkspeech.fitting.identity import differences, source_hash
from shrinkspeech.fitting.interval import Interval


def test_recipes_are_told_apart_by_their_text(tmp_path: Path) -> None:
    file = tmp_path / "r.py"
    file.write_text("def loss(o, b): return o.mean()\n")
    before = source_hash(file)
    file.write_text("def loss(o, b): return o.sum()\n")
    assert source_hash(file) != before
    assert differences({"a": {"b": (1, 2)}, "c": 1}, {"a": {"b": [1, 2]}}) == ["c (1, it was not there)"]


def test_intervals() -> None:
    assert Interval.parse("5m") == Interval(seconds=300.0)
    assert Interval.parse(" 1.5 h ") == Interval(seconds=5400.0)
    assert Interval.parse("30s") == Interval(seconds=30.0)
    assert Interval.parse(100) == Interval.parse("100") == Interval(steps=100)
    assert [Interval.parse("5m").has_passed(7, seconds) for seconds in (299.9, 300.0)] == [False, True]
    assert [Interval(steps=4).has_passed(step, 1e9) for step in (3, 4, 8)] == [False, True, True]
    for text in ("0", "0s", "1.5", "-3", "soon", "", "5d"):
        with pytest.raises(InputError, match="cannot read --checkpoint-every"):
            Interval.parse(text)
