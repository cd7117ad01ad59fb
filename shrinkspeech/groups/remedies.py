"""What a user can do about a group that may not shrink, by the words of its reason."""

from __future__ import annotations

REMEDIES = {
    "has no rule": "an operator without a rule freezes what it touches: write a rule (docs/rules.md), a few lines of Python",
    "addresses its elements one by one": "channels that are picked by number stay: split or chunk them instead of indexing",
    "cannot be matched": "sizes that an operator ties in a way the axes cannot express: reshape along channel boundaries",
    "cannot be followed": "a slice whose ends are computed, or that steps over channels, stays whole: use fixed ends",
    "reorders it": "flipped or rolled channels stay: reorder the weights that follow instead",
    "returns positions": "an operator that returns channel numbers needs every channel",
    "excluded by --exclude": "",
    "not named by --only": "",
    "at its smallest width": "",
}
"""A part of the reason → what to do; inputs, outputs, time and frequency axes are not listed: they are meant to stay."""


def remedy(reason: str) -> str:
    """One sentence, or nothing where the group is meant to stay."""
    return next((text for words, text in REMEDIES.items() if words in reason), "")
