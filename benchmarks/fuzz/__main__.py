"""Try random damaged and hostile inputs, and write what became of them.

    python -m benchmarks.fuzz --runs 1000 --minutes 5

An input is its number: ``--only KIND --number N`` tries one again, with the traceback.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.kinds import KINDS, seed
from benchmarks.fuzz.worker import Tally, run

RESULTS = Path(__file__).resolve().parents[1] / "results" / "fuzz.csv"
CHUNK = 50
"""Inputs between two looks at the clock."""


@dataclass(frozen=True)
class Row:
    """One kind."""

    kind: str
    runs: int
    seconds: float
    tally: Tally


def measured(kind: str, folder: Path, number: int, runs: int, minutes: float) -> Row:
    """Inputs of a kind, up to a number of them or a time."""
    tally, started, done = Tally(), time.perf_counter(), 0
    while done < runs and time.perf_counter() - started < 60 * minutes:
        part = run(kind, folder, number, range(done, min(done + CHUNK, runs)))
        tally.outcomes.update(part.outcomes)
        tally.escapes = part.escapes | tally.escapes
        done += part.outcomes.total()
    return Row(kind, done, time.perf_counter() - started, tally)


def write(rows: Sequence[Row]) -> None:
    """``benchmarks/results/fuzz.csv``."""
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["kind", "inputs", "seconds", "used", "refused", "escaped"])
        for row in rows:
            counts = row.tally.outcomes
            table.writerow(
                [row.kind, row.runs, round(row.seconds), counts["used"], counts["refused"], row.tally.escaped]
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--minutes", type=float, default=5.0, help="time for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*KINDS], action="append", help="one kind; may be repeated")
    parser.add_argument("--number", type=int, help="try one input of --only, and show its traceback")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        import os

        folder = Path(made)
        os.chdir(folder)
        seed(folder)
        if given.number is not None:
            for kind in given.only or ():
                KINDS[kind](random.Random(f"{given.seed} {kind} {given.number}"))
            return
        rows = []
        for kind in given.only or KINDS:
            row = measured(kind, folder, given.seed, given.runs, given.minutes)
            rows.append(row)
            print(f"{row.kind}: {row.runs} inputs in {row.seconds:.0f} s, {dict(row.tally.outcomes)}", flush=True)
            for escape, number in row.tally.escapes.items():
                print(f"  number {number}: {escape}", flush=True)
        if not given.only:
            write(rows)


if __name__ == "__main__":
    main()
