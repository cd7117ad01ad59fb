"""How tables look: plain columns under bold titles."""

from __future__ import annotations

from collections.abc import Collection

from rich.table import Table


def table(*titles: str, left: Collection[int] = (0,)) -> Table:
    """A table without rows; columns hold numbers, set to the right, but for those numbered in ``left``."""
    made = Table(*titles, box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(made.columns):
        column.justify = "left" if number in left else "right"
    return made
