"""FLOP/s of a model in one call."""

from __future__ import annotations

from collections.abc import Mapping

from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label


def flops(
    captured: Captured, groups: Groups | None = None, widths: Mapping[str, float] | None = None, seconds: float = 1.0
) -> float:
    """FLOP/s (2 × multiply-accumulates) of the contractions of a model.

    An operator that nobody can count stands with nothing; ``Groups.uncounted`` names it.

    Args:
        groups: the labelled graph; labelled here if not given.
        widths: width of some groups; the others are whole.
        seconds: audio that one item of the example batch holds, in s.
    """
    return count(captured, label(captured) if groups is None else groups, seconds).at(widths or {})
