"""``docs/reliability.md``, made of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.faults.rows import Row

HEAD = """# Faults, and what becomes of a fit

Made by `{command}` ({date}, commit {commit}, {machine}).

Each row is a fault that was done to a small fit (a convolutional model with batch norm and dropout, shuffled batches, {steps}
steps) or to its files, in processes of their own. *Lost* is what had to be done again. *To go on* is the time of the command
that goes on, from its start to its end, loading and capture included but not Python's imports, on a machine that was busy with
other work (load {load:.0f} on {cores} cores). {good} of {all} came out as they should. Faults are drawn by a seed; the moments
are those of this machine. [The design](design.md) says what holds these.
"""
TITLES = "| fault | what happened | lost | to go on (s) | as it should |\n|---|---|---|---|---|\n"


def page(rows: Sequence[Row], facts: dict[str, object]) -> str:
    """The whole page."""
    parts = [HEAD.format(**facts, good=sum(row.good for row in rows), all=len(rows))]
    for kind in dict.fromkeys(row.kind for row in rows):
        lines = [_line(row) for row in rows if row.kind == kind]
        parts.append(f"## {kind}\n\n{TITLES}{''.join(lines)}")
    return "\n".join(parts)


def _line(row: Row) -> str:
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    return f"| {row.fault} | {row.happened} | {row.lost} | {seconds} | {'yes' if row.good else '**no**'} |\n"
