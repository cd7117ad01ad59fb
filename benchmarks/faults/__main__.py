"""Do faults to fits and to their files, and write down what became of each.

python -m benchmarks.faults                         docs/reliability.md
python -m benchmarks.faults --only numbers flips --page /tmp/page.md
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults import files, flips, killing, numbers
from benchmarks.faults.killing import Whole
from benchmarks.faults.page import page, write
from benchmarks.faults.rows import Row
from benchmarks.faults.subject import STEPS, prepare

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20, help="processes that are killed at a random moment")
    parser.add_argument("--flips", type=int, default=50, help="flipped bits of each kind of file")
    parser.add_argument("--steps", type=int, default=3000, help="of the fit whose memory is measured")
    parser.add_argument("--only", nargs="*", help="of killing, states, others, places, disks, numbers, memory, flips")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder).resolve() / "first")
        rows = list(_all(Path(folder), chosen))
    write(chosen.page, page(rows, _facts()))
    sys.exit(not all(row.good for row in rows))


def _all(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    def whole() -> Whole:
        return Whole(folder / "undisturbed")

    def dice(name: str) -> random.Random:
        return random.Random(f"{chosen.seed} {name}")

    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "killing": lambda: killing.rows(folder, dice("killing"), chosen.kills),
        "states": lambda: files.states(folder / "a", whole(), dice("states")),
        "others": lambda: files.others(folder / "a", whole()),
        "places": lambda: files.places(folder / "a", whole()),
        "disks": lambda: files.disks(folder / "a", whole()),
        "numbers": lambda: numbers.rows(folder / "a"),
        "flips": lambda: flips.rows(folder / "flips", dice("flips"), chosen.flips),
        "memory": lambda: numbers.memory(folder / "a", chosen.steps),
    }
    for name in chosen.only or parts:
        for row in parts[name]():
            print(
                f"{'' if row.good else 'NOT GOOD  '}{row.fault}: {row.happened}; lost {row.lost}; {row.seconds or 0:.1f} s",
                flush=True,
            )
            yield row


def _facts() -> dict[str, object]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return {
        "command": "python -m benchmarks.faults",
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "steps": STEPS,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[1],
    }


if __name__ == "__main__":
    main()
