"""What became of each fault, as rows of a CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

SURVIVED = "survived"


@dataclass(frozen=True)
class Row:
    """One fault and its end.

    Attributes:
        change: the lines that differ, each with - or + in front, parted by ``RETURN``.
        verdict: ``killed``, ``timeout`` (killed as well) or ``survived``.
        seconds: what its tests took.
        test: the test that killed it.
    """

    folder: str
    file: str
    line: int
    function: str
    kind: str
    key: str
    change: str
    verdict: str
    seconds: float
    test: str
    number: int
    seed: int
    date: str
    commit: str
    command: str

    @property
    def survived(self) -> bool:
        return self.verdict == SURVIVED


RETURN = " ⏎ "


def read(path: Path) -> list[Row]:
    """Rows of a file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                **{
                    **row,
                    "line": int(row["line"]),
                    "seconds": float(row["seconds"]),
                    "number": int(row["number"]),
                    "seed": int(row["seed"]),
                }
            )
            for row in csv.DictReader(file)
        ]


def append(path: Path, row: Row) -> None:
    """Add a row, below a head where the file is new."""
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def write(path: Path, rows: Iterable[Row]) -> None:
    """A whole file, rows by folder, file and line."""
    path.unlink(missing_ok=True)
    for row in sorted(rows, key=lambda row: (row.folder, row.file, row.line, row.key)):
        append(path, row)
