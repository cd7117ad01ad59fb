"""What a fit reached, in two tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shrinkspeech.budget import human

if TYPE_CHECKING:
    from shrinkspeech.fitted import Fitted


def summary(fitted: Fitted, sizes: Mapping[str, int], run: Path) -> None:
    """Original against small, the width of each group, and where the files are."""
    report = fitted.report
    console = Console(highlight=False)
    table = _table("", "original", "small", "small / original")
    _row(table, "FLOP/s", report.original_flops, report.flops)
    _row(table, "parameters", report.original_params, report.params)
    for name, before in report.metrics_before.items():
        after = report.metrics_after.get(name)
        table.add_row(escape(name), f"{before:.4g}", "–" if after is None else f"{after:.4g}", "")
    console.print(table)
    widths = _table("group", "original", "small")
    for name, width in fitted.widths.items():
        widths.add_row(escape(name), str(sizes[name]), str(width))
    console.print()
    console.print(widths)
    console.print(
        f"\nwrote {run}: model.pt2, model.safetensors, widths.json, report.json", soft_wrap=True, markup=False
    )


def _table(*titles: str) -> Table:
    table = Table(*titles, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _row(table: Table, name: str, before: float, after: float) -> None:
    table.add_row(name, human(before), human(after), f"{100 * after / before:.2f}%" if before else "–")
