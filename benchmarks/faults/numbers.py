"""Numbers that are not finite, and memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.rows import Row
from benchmarks.faults.subject import Subject

KIND, MEMORY = "Numbers that are not finite", "Memory"


def rows(folder: Path) -> Iterator[Row]:
    for name, faults, skipped, returns in (
        ("one batch of NaN", {"bad_batches": [40]}, 1, 0),
        ("one batch of infinite numbers", {"bad_batches": [40], "value": "inf"}, 1, 0),
        ("one gradient that is not finite (a root at 0)", {"bad_gradients": [60]}, 1, 0),
        ("NaN in every other batch of ten", {"bad_batches": list(range(40, 50, 2))}, 5, 0),
        ("NaN in five batches in a row", {"bad_batches": list(range(40, 45))}, 5, 1),
        ("NaN in ten batches in a row", {"bad_batches": list(range(40, 50))}, 10, 2),
    ):
        subject = Subject(folder)
        subject.faults(**faults)
        ended = subject.command(subject.arguments())
        report = json.loads((subject.run / "report.json").read_text()) if ended.code == 0 else {}
        good = (report.get("skipped"), report.get("returns")) == (skipped, returns) and bool(subject.hash())
        happened = f"{skipped} steps skipped" + (
            f", {returns} times back to the last good state with half the rate" if returns else ""
        )
        yield Row(
            KIND,
            name,
            f"{happened}; the run is whole, its weights finite" if good else ended.last[:120],
            f"{skipped} batches",
            good=good,
        )
    subject = Subject(folder)
    subject.faults(bad_batches=list(range(40, 10_000)))
    ended = subject.command(subject.arguments())
    good = ended.code == 2 and "is nan at step" in ended.last and not (subject.run / "model.pt2").exists()
    yield Row(
        KIND,
        "NaN in every batch from the 40th on",
        "twice back, then exit code 2 with the reason; nothing that is not finite is written",
        "the rest",
        good=good,
    )


def memory(folder: Path, steps: int) -> Iterator[Row]:
    """Resident size after 100 steps and at the end, states every 100 steps included."""
    subject = Subject(folder)
    first, last = 108, steps
    subject.faults(memory_at=[first, last])
    ended = subject.command(subject.arguments("--checkpoint-every", "100", steps=steps))
    sizes = [int(line) / 1024 for line in (subject.folder / "memory").read_text().split()]
    growth = sizes[1] - sizes[0]
    good = ended.code == 0 and growth < 0.05 * sizes[0]
    happened = f"{sizes[0]:.0f} MiB resident at step {first - 8}, {sizes[1]:.0f} MiB at step {last - 8} ({growth:+.0f})"
    yield Row(MEMORY, f"{steps:,} steps with a state every 100", happened, good=good)
