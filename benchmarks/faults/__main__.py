"""Do faults to fits and to their files, and write down what became of each.

python -m benchmarks.faults                         docs/reliability.md
python -m benchmarks.faults --only numbers flips      these alone
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
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from benchmarks.faults import files, flips, killing, numbers
from benchmarks.faults.killing import Whole
from benchmarks.faults.page import page
from benchmarks.faults.rows import Row, read, write
from benchmarks.faults.subject import STEPS, prepare

ROOT = Path(__file__).parents[2]
KINDS = {
    "killing": killing.KIND,
    "states": files.STATES,
    "others": files.OTHERS,
    "places": files.PLACES,
    "disks": files.DISKS,
    "numbers": numbers.KIND,
    "flips": flips.KIND,
    "memory": numbers.MEMORY,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20, help="processes that are killed at a random moment")
    parser.add_argument("--flips", type=int, default=50, help="flipped bits of each kind of file")
    parser.add_argument("--steps", type=int, default=3000, help="of the fit whose memory is measured")
    parser.add_argument(
        "--only", nargs="*", help=f"of {', '.join(KINDS)}; the other rows stay as they are in the results"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "faults.csv")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md")
    chosen = parser.parse_args()
    known = {kind: [row for row in read(chosen.results) if row.kind == kind] for kind in KINDS.values()}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder).resolve() / "first")
        for name in chosen.only or KINDS:
            known[KINDS[name]] = []
            for row in _rows(name, Path(folder), chosen):
                verdict = "" if row.good else "NOT GOOD  "
                print(f"{verdict}{row.fault}: {row.happened}; lost {row.lost}; {row.seconds or 0:.1f} s", flush=True)
                known[KINDS[name]].append(row)
                write(chosen.results, list(chain(*known.values())))
    rows = list(chain(*known.values()))
    chosen.page.write_text(page(rows, _facts()), encoding="utf-8")
    sys.exit(not all(row.good for row in rows))


def _rows(name: str, folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    dice = random.Random(f"{chosen.seed} {name}")
    if name == "killing":
        return killing.rows(folder, dice, chosen.kills)
    if name == "flips":
        return flips.rows(folder / "flips", dice, chosen.flips)
    if name == "numbers":
        return numbers.rows(folder / "a")
    if name == "memory":
        return numbers.memory(folder / "a", chosen.steps)
    whole = _whole(folder / "undisturbed")
    if name == "states":
        return files.states(folder / "a", whole, dice)
    return {"others": files.others, "places": files.places, "disks": files.disks}[name](folder / "a", whole)


@cache
def _whole(folder: Path) -> Whole:
    return Whole(folder)


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
