"""Fits to be made, and their rows of results: one CSV for each study, so that a run that was cut goes on."""

from __future__ import annotations

import csv
import fcntl
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.quality.rows import read
from shrinkspeech.fitting.settings import Settings

RESULTS = Path(__file__).parents[1] / "results"

Row = Mapping[str, str]


@dataclass(frozen=True)
class Fit:
    """One model to be made.

    Attributes:
        model: folder in ``sample_models``.
        part: ``all``, or the part of the model that alone may shrink.
        budget: ``100%`` (no fit at all), a share of the FLOP/s, or ``half`` and ``quarter``: what the model costs with
            half or a quarter of the width of every group in the part.
        rate: peak learning rate.
    """

    model: str
    part: str
    budget: str
    seed: int
    steps: int
    rate: float

    def key(self) -> tuple[str, ...]:
        return tuple(str(value) for value in asdict(self).values())


def results(study: str) -> Path:
    """The rows of a study."""
    return RESULTS / f"case_{study}.csv"


def defaults() -> str:
    """The settings that every fit has, for the rows: where they have changed since, a fit is made again."""
    return " ".join(f"{name}={value}" for name, value in asdict(Settings()).items())


def key_of(row: Row) -> tuple[str, ...]:
    """The key of the fit that a row is of."""
    return tuple(row[name] for name in Fit.__dataclass_fields__)


def missing(plan: Iterable[Fit], path: Path) -> list[Fit]:
    """The fits that have no row of today's settings yet, each once, in order."""
    known = {key_of(row) for row in read(path) if row["settings"] == defaults()}
    return [fit for fit in dict.fromkeys(plan) if fit.key() not in known]


def planned(plan: Iterable[Fit], path: Path) -> list[Row]:
    """The newest rows of the fits that are wanted, as far as they are there, in the order of the plan."""
    known = {key_of(row): row for row in read(path)}
    return [known[fit.key()] for fit in dict.fromkeys(plan) if fit.key() in known]


def append(row: Row, path: Path) -> None:
    """Write one row at the end, with a header if the file is new.

    Raises:
        ValueError: the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        header = next(csv.reader(file), None)
        if header not in (None, list(row)):
            raise ValueError(f"{path} has the columns {header}: move it away to measure anew")
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if header is None:
            writer.writeheader()
        writer.writerow(row)
