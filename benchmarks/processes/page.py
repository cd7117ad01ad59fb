"""The measured tables of docs/scale.md, between their marks; the rest of the page is written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE = Path("docs/scale.md")
BEGIN, END = "<!-- measured: python -m benchmarks.processes -->\n", "<!-- end of what is measured -->\n"
SHOWN = {
    "model": "model",
    "precision": "numbers",
    "processes": "processes",
    "went on from": "went on from so many",
    "widths as one": "widths of one process",
    "largest difference": "largest difference of a weight",
    "gate bytes a step": "bytes a step, gate",
    "tune bytes a step": "bytes a step, tune",
    "items/s": "items/s, tune",
}


def table(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [list(SHOWN.values()), ["---"] * len(SHOWN), *([row[name] or "–" for name in SHOWN] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_page(rows: Sequence[Mapping[str, str]], seconds: float) -> None:
    """Put what was measured in the place of what was measured before."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    first = rows[0]
    told = (
        f"\nOf {first['date']}, commit {first['commit']}, {first['machine']}, gloo, one thread a process:\n\n{table(rows)}\n"
        f"One of two processes was killed (`kill -9`) in a step: {seconds:.1f} s later the other and `torchrun` had ended.\n\n"
    )
    PAGE.write_text(before + BEGIN + told + END + after, encoding="utf-8")
