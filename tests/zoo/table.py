"""docs/coverage.md: the rows as one table, with what they were measured on."""

from __future__ import annotations

import datetime
import platform
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
CLOSED = 1e-5
HEAD = (
    "| model | code | captured | nodes | s | dynamic | in groups that may shrink | smallest | groups "
    "| operators without a rule | law 1 | law 2 | cost / target at 50 % | ONNX |"
)


def write(path: Path, rows: Rows, missing: dict[str, str]) -> None:
    """Write the page."""
    parts = [
        "# What can be captured and shrunk",
        "Written by `python -m tests.zoo.run`; not to be edited by hand. Every model is a small, randomly initialised "
        "form of a published one: what is measured is the graph, not the task.",
        f"{datetime.date.today()}, {versions()}.",
        summary(rows),
        "\n".join([HEAD, "|" + "---|" * 14, *(row_line(row) for row in rows)]),
        legend(),
        remarks(rows, missing),
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join(part for part in parts if part) + "\n")


def versions() -> str:
    names = ("torch", "transformers", "speechbrain", "onnx", "onnxscript", "onnxruntime")
    found = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def summary(rows: Rows) -> str:
    """Counts and the median share."""
    done = [row for row in rows if row["nodes"]]
    shares = [row["share"] for row in done] or [0.0]
    count = {
        "open gates change nothing": sum(row["law1"] == 0 for row in rows),
        "closed equals sliced": sum(row["law2"] is not None and row["law2"] <= CLOSED for row in rows),
        "50 % reached (98 to 100 % of the target)": sum(halved(row) for row in rows),
        "ONNX equals torch": sum(row["onnx"] is not None for row in rows),
    }
    facts = "; ".join(f"{name}: {value}" for name, value in count.items())
    return (
        f"**{len(done)} of {len(rows)} models captured. {facts}. Median share of FLOP/s in groups that may shrink: "
        f"{100 * statistics.median(shares):.1f} %.**"
    )


def halved(row: dict[str, Any]) -> bool:
    return row["reached"] is not None and 0.98 <= row["reached"] <= 1.0 + 1e-9


def row_line(row: dict[str, Any]) -> str:
    errors = row["errors"]
    captured = row["route"] or "no"
    cells = [
        row["name"],
        row["source"],
        captured,
        str(row["nodes"] or "–"),
        f"{row['seconds']:.1f}",
        "yes" if row["dynamic"] else "no",
        f"{100 * row['share']:.1f} %",
        "–" if row["floor"] is None else f"{100 * row['floor']:.1f} %",
        f"{row['shrinkable']} of {row['groups']}",
        ", ".join(f"`{name.removesuffix('.default')}`" for name in row["unknown"]) or "–",
        number(row["law1"], errors.get("law 1")),
        number(row["law2"], errors.get("law 2")),
        "–" if row["reached"] is None else f"{row['reached']:.3f}",
        number(row["onnx"], errors.get("onnx")),
    ]
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, error: str | None) -> str:
    if error:
        return "fails"
    return "–" if value is None else "exact" if value == 0 else f"{value:.0e}"


def legend() -> str:
    return (
        "*captured*: the route through `torch.export`. *s*: capture and labelling. *dynamic*: batch and length may "
        "change. *smallest*: what is left of the FLOP/s with every group at its smallest width. *law 1*: largest "
        "relative difference that open gates make. *law 2*: closed gates against the sliced graph at 35 to 65 % of "
        "every width, random units. *cost / target*: uniform widths, repaired to whole units, counted on the sliced "
        "graph. *ONNX*: torch against onnxruntime, at several sizes where sizes may change."
    )


def remarks(rows: Rows, missing: dict[str, str]) -> str:
    """Reasons, one a line."""
    lines = [f"- {row['name']}, {step}: {cell(text)}" for row in rows for step, text in row["errors"].items()]
    lines += [f"- {row['name']}: {cell(note)}" for row in rows for note in row["notes"]]
    lines += [f"- models of `{family}`: not imported: {reason}" for family, reason in missing.items()]
    return "## Reasons\n\n" + "\n".join(lines) if lines else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|")
