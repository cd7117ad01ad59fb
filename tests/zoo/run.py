"""``python -m tests.zoo.run [NAME …]``: measure the zoo, and write docs/coverage.md once every model has a row.

Rows are cached, so that a run which was cut off goes on where it stopped; ``--fresh`` measures anew. Each model gets a
process of its own: torch's solver of size constraints depends on what the process has solved before, and a model that
ends its process ends nothing else.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from . import ENTRIES, everything
from .measure import Row, measure
from .table import write

CACHE = Path(tempfile.gettempdir()) / "shrinkspeech-zoo.json"
COVERAGE = Path(__file__).parents[2] / "docs" / "coverage.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.run", description=__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="models to measure (globs); all if none is given")
    parser.add_argument("--fresh", action="store_true", help="measure again what is cached")
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX parity out")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    options = parser.parse_args()
    for name in [n for n in ENTRIES if any(fnmatch.fnmatch(n, glob) for glob in options.names)]:
        if name not in cached(options.cache) or options.fresh:
            (one if options.here else apart)(name, options)
    for family, reason in everything.MISSING.items():
        print(f"{family}: not imported: {reason}", file=sys.stderr)
    rows = cached(options.cache)
    if not options.here and all(name in rows for name in ENTRIES):
        write(COVERAGE, [rows[name] for name in ENTRIES], everything.MISSING)


def one(name: str, options: argparse.Namespace) -> None:
    """Measure a model in this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    row = measure(ENTRIES[name], not options.no_onnx)
    keep(options.cache, row)
    print(line(row), f"({time.perf_counter() - started:.1f} s)", flush=True)


def apart(name: str, options: argparse.Namespace) -> None:
    """Measure a model in a process of its own."""
    command = [sys.executable, "-m", f"{__package__}.run", name, "--here", "--fresh", "--cache", str(options.cache)]
    status = subprocess.run([*command, *(["--no-onnx"] if options.no_onnx else [])], check=False).returncode
    if status:
        keep(options.cache, Row(name, ENTRIES[name].source, errors={"process": f"it ended with status {status}"}))


def cached(path: Path) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return rows


def keep(path: Path, row: Row) -> None:
    path.write_text(json.dumps({**cached(path), row.name: row.as_dict()}, indent=1))


def line(row: Row) -> str:
    """One model on one line of the terminal."""
    number = lambda value: "–" if value is None else f"{value:.1e}" if value else "0"  # noqa: E731
    errors = "; ".join(f"{step}: {text[:160]}" for step, text in row.errors.items())
    return (
        f"{row.name:28} {row.route:6} {row.nodes:5} nodes {row.seconds:5.1f} s  {100 * row.share:5.1f} %  "
        f"{row.shrinkable}/{row.groups} groups  laws {number(row.law1)} {number(row.law2)}  "
        f"50 %: {'–' if row.reached is None else f'{row.reached:.3f}'}  onnx {number(row.onnx)}  "
        f"{' '.join(row.unknown)} {errors}"
    )


if __name__ == "__main__":
    main()
