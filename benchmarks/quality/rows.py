"""Rows of results: one for each run that is done, appended to a CSV that several processes share."""

from __future__ import annotations

import csv
import fcntl
import io
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results" / "quality.csv"
UNSUPPORTED = RESULTS.with_name("quality_unsupported.csv")
FIELDS = (
    "model method budget seed steps rate metric value others share flops params widths duration "
    "torch date commit machine"
).split()


@dataclass(frozen=True)
class Run:
    """One measurement: which model, how, to what share of its FLOP/s, with which seed."""

    model: str
    method: str
    budget: str
    seed: int
    steps: int
    rate: float

    def key(self) -> tuple[str, ...]:
        return (self.model, self.method, self.budget, str(self.seed), str(self.steps), str(self.rate))


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """All rows; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def done(path: Path = RESULTS) -> set[tuple[str, ...]]:
    """Keys of the runs that need not be made again."""
    return {tuple(row[name] for name in FIELDS[:6]) for row in read(path)}


def append(row: dict[str, object], path: Path = RESULTS) -> None:
    """Write one row at the end."""
    _append(row, FIELDS, path)


def note_unsupported(run: Run, reason: str) -> None:
    """Remember that a method cannot do a run, and why."""
    _append(dict(zip([*FIELDS[:6], "reason"], [*run.key(), " ".join(reason.split())], strict=True)), None, UNSUPPORTED)


def unsupported() -> set[tuple[str, ...]]:
    """Keys of the runs that a method cannot do."""
    return {tuple(row[name] for name in FIELDS[:6]) for row in read(UNSUPPORTED)}


def _append(row: dict[str, object], fields: list[str] | None, path: Path) -> None:
    """In one piece and under a lock, with a header if the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = io.StringIO()
        writer = csv.DictWriter(text, fields or list(row), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
        file.write(text.getvalue())
