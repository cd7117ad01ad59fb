"""One row for each fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A fault.

    Attributes:
        kind: the section that it belongs to.
        fault: what was done, and how.
        happened: what became of it.
        lost: steps that were taken again, or what else was lost.
        seconds: from the command that goes on to its end, in s; None where nothing had to go on.
        good: whether that is what should happen.
    """

    kind: str
    fault: str
    happened: str
    lost: str = "nothing"
    seconds: float | None = None
    good: bool = True
