"""``python -m benchmarks.trained --repositories DIR --audio DIR``: trained public models through the four commands.

What is measured is kept beside the runs, one JSON for each model, so that a run which was cut goes on where it stopped;
``--fresh`` measures anew, ``--only NAME`` that model alone. At the end ``benchmarks/results/trained.csv`` and
``docs/trained.md`` are written.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.trained import packages
from benchmarks.trained.commands import Places, measured, through
from benchmarks.trained.models import Model
from benchmarks.trained.table import MODELS


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trained", description=__doc__)
    parser.add_argument("--repositories", type=Path, help="folder with the checkouts of the repositories")
    parser.add_argument("--audio", type=Path, help="folder with speech.csv, noise.csv and spoof.csv")
    parser.add_argument("--only", nargs="*", default=["*"], metavar="NAME", help="models to measure (globs)")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    parser.add_argument("--steps", type=int, help="steps of every fit; by default the table's")
    parser.add_argument("--show", action="store_true", help="measure nothing, only write what is there")
    options = parser.parse_args(arguments)
    if not options.show:
        if options.repositories is None or options.audio is None:
            parser.error("say where the repositories and the audio lie, with --repositories and --audio")
        packages.prepare()
        for model in MODELS:
            if any(fnmatch.fnmatch(model.name, glob) for glob in options.only):
                one(model, options)
    from benchmarks.trained.showing import show

    show({model.name: kept(model) for model in MODELS})


def one(model: Model, options: argparse.Namespace) -> None:
    """Measure a model unless that has been done; where metric and times alone are missing, those."""
    known = None if options.fresh else kept(model)
    if known is not None and "unmeasured" not in known:
        return
    run = packages.HOME / "runs" / model.name
    places = Places(options.repositories.resolve(), options.audio.resolve(), run)
    if not model.here(places.repositories, packages.packages()).is_dir():
        print(f"{model.name}: there is no {model.folder}: git clone https://github.com/{model.source.split('@')[0]}")
        return
    if known is None:
        row = {"name": model.name, "commit": _commit(), **through(model, places, options.steps or model.steps)}
    else:
        row = {**{key: value for key, value in known.items() if key != "unmeasured"}, **measured(model, places)}
    (run / "row.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    told = f"{row['failed']}: {row['sentence']}" if "failed" in row else str(row.get("unmeasured", "through"))
    print(f"{model.name:16} {told}", flush=True)


def kept(model: Model) -> dict[str, Any] | None:
    """What was measured of a model."""
    path = packages.HOME / "runs" / model.name / "row.json"
    if not path.is_file():
        return None
    date = time.strftime("%Y-%m-%d", time.gmtime(path.stat().st_mtime))
    return {"date": date, **json.loads(path.read_text(encoding="utf-8"))}


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=packages.ROOT, capture_output=True, text=True)
    return found.stdout.strip()


if __name__ == "__main__":
    main()
