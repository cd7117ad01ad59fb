"""One row for each fault."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


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


def read(path: Path) -> list[Row]:
    """What a file of results holds; nothing if it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(
                *(line[name] for name in ("kind", "fault", "happened", "lost")),
                float(line["seconds"]) if line["seconds"] else None,
                line["good"] == "True",
            )
            for line in csv.DictReader(file)
        ]


def write(path: Path, rows: Sequence[Row]) -> None:
    """All rows, one a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
