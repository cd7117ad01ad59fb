"""Learned against known widths: the tables that the sample model's own command wrote, and their figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.case_studies import figures
from benchmarks.quality.showing import END, START

README = Path(__file__).parents[2] / "sample_models" / "synthetic" / "README.md"
METHODS = {"uniform": ("s", "0.6"), "default settings": ("o", "tab:blue"), "from the whole model": ("x", "tab:orange")}

Table = list[dict[str, str]]


@dataclass(frozen=True)
class Tables:
    """Rows by column name. An ``error %`` is named after the method before it.

    Attributes:
        known: fits at the budget of the known widths, one row for each seed.
        knee: fits of one seed at budgets around it.
        markdown: both, as they were written.
    """

    known: Table
    knee: Table
    markdown: str


def read(path: Path = README) -> Tables:
    """What stands between the marks of the sample model's README.

    Raises:
        ValueError: there are not two tables.
    """
    page = path.read_text(encoding="utf-8")
    if START not in page:
        raise ValueError(f"{path} has no line {START}")
    markdown = page.split(START, 1)[1].split(END, 1)[0].strip()
    tables = [_table(part.splitlines()) for part in markdown.split("\n\n") if part.lstrip().startswith("|")]
    if len(tables) != 2:
        raise ValueError(
            f"{path} has {len(tables)} tables of results, not 2: run sample_models.synthetic.evaluate --readme"
        )
    return Tables(tables[0], tables[1], markdown)


def _table(lines: Sequence[str]) -> Table:
    """Rows that begin with a number; the others are sums."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    names: list[str] = []
    for name in cells[0]:
        names.append(f"{names[-1]}, {name}" if name == "error %" else name.split(" (")[0])
    return [dict(zip(names, row, strict=True)) for row in cells[2:] if row[0].replace(".", "").isdigit()]


def widths(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def draw(tables: Tables, folder: Path) -> None:
    """``synthetic.png``: learned widths against known ones, and the error around the known budget."""
    figure, [left, right] = figures.blank(2)
    most = max(max(widths(row["known widths"])) for row in tables.known) + 2
    left.plot([0, most], [0, most], color="black", linewidth=0.8, label="learned = known")
    for method, (marker, colour) in METHODS.items():
        known = [width for row in tables.known for width in widths(row["known widths"])]
        learned = [width for row in tables.known for width in widths(row[method])]
        left.scatter(known, learned, marker=marker, color=colour, label=method, alpha=0.8)
    left.set(xlabel="known width of a branch, units", ylabel="learned width, units", title="at the known budget")
    left.set_aspect("equal")
    budgets = [float(row["budget"]) for row in tables.knee]
    least = [float(row["least possible error %"]) for row in tables.knee]
    right.plot(budgets, least, color="black", linestyle="--", zorder=3, label="least possible")
    for method, (marker, colour) in METHODS.items():
        if method in tables.knee[0]:
            errors = [float(row[f"{method}, error %"]) for row in tables.knee]
            right.plot(budgets, errors, marker=marker, color=colour, label=method)
    right.set(xlabel="budget, 1 = FLOP of the known widths", ylabel="error %", title="around the known budget")
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figures.save(figure, folder / "synthetic.png")


def answer(tables: Tables) -> str:
    """How far the learned widths are from the known ones."""
    lines = []
    for method in METHODS:
        pairs = [(widths(row["known widths"]), widths(row[method])) for row in tables.known]
        off = [abs(a - b) for known, learned in pairs for a, b in zip(known, learned, strict=True)]
        exact = sum(known == learned for known, learned in pairs)
        lines.append(
            f"* {method}: {exact} of {len(pairs)} seeds exact, {sum(gap <= 1 for gap in off)} of {len(off)} widths "
            f"within one unit, the largest difference {max(off)}"
        )
    return "\n".join(lines)


def text(tables: Tables) -> str:
    """What stands between the marks of the page."""
    return "\n\n".join([answer(tables), "![Learned and known widths](synthetic.png)", tables.markdown])
