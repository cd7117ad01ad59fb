"""``python -m tests.zoo.totals [NAME …]``: is a model's FLOP/s one number, whoever counts it? Writes docs/totals.md.

For every model of the zoo: what ``inspect`` says of it; what ``fit`` says of it at 50 %, what ``export`` and ``check`` say of
the exported file, and what torch's own counter finds in the saved programs. Rows are cached; each model has its own process.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import fnmatch
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import shrinkspeech
from shrinkspeech.errors import ShrinkSpeechError
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.captured import Captured

from . import ENTRIES, Entry, everything
from .table import cell, versions

CACHE = Path(tempfile.gettempdir()) / "shrinkspeech-totals.json"
PAGE = Path(__file__).parents[2] / "docs" / "totals.md"
COUNTERS = ("inspect", "torch", "fit at 50 %", "export", "check", "torch at 50 %")
CLOSE = 1e-6
"""Two totals that differ by less, relative, are equal: they are sums in another order."""


def totals(entry: Entry, folder: Path) -> dict[str, float | str]:
    """What each counter says, in FLOP/s; a sentence in the place of a number where a step is refused."""
    torch.manual_seed(0)
    captured = shrinkspeech.capture(entry.make().eval(), entry.inputs())
    groups = shrinkspeech.label(captured)
    found: dict[str, float | str] = {"inspect": shrinkspeech.flops(captured, groups, seconds=entry.seconds)}
    captured.save(folder / "whole.pt2")
    found["torch"] = by_torch(folder / "whole.pt2", captured, entry.seconds)
    recipe = Recipe(train_batches=lambda: [captured.example_inputs] * 2, loss=None, inputs=lambda batch: batch)
    fitted = shrinkspeech.fit(captured, recipe, "50%", steps=2, seconds=entry.seconds, groups=groups, evaluate=False)
    found["fit at 50 %"] = fitted.report.flops
    fitted.save(folder / "run")
    found["torch at 50 %"] = by_torch(folder / "run" / "model.pt2", fitted.captured, entry.seconds)
    try:
        report = shrinkspeech.export_onnx(fitted.captured, folder / "model.onnx", seconds=entry.seconds)
    except ShrinkSpeechError as error:
        return {**found, "export": one_line(error), "check": ""}
    return {**found, "export": report.flops, "check": onnx_flops(folder / "model.onnx").flops}


def by_torch(path: Path, captured: Captured, seconds: float) -> float:
    """FLOP/s of a saved program by ``torch.utils.flop_counter``; attention and recurrences as the products that they are."""
    module = torch.export.load(str(path)).module()
    inputs = copy.deepcopy(captured.example_inputs)
    math_only = sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False)
    with torch.no_grad(), math_only[0], math_only[1], FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / (seconds * captured.batch)


def equal(row: dict[str, Any]) -> bool:
    """Whether all counters that there are say the same, of the whole model and of the small one."""
    return all(agree([row[name] for name in names]) for names in (COUNTERS[:2], COUNTERS[2:]))


def agree(values: list[float | str]) -> bool:
    numbers = [value for value in values if isinstance(value, float)]
    return max(numbers) - min(numbers) <= CLOSE * max(numbers) if numbers else True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.totals", description=__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="models (globs); all if none is given")
    parser.add_argument("--fresh", action="store_true", help="count again what is cached")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--here", action="store_true", help="count in this process")
    options = parser.parse_args()
    for name in [n for n in ENTRIES if any(fnmatch.fnmatch(n, glob) for glob in options.names)]:
        if name not in cached(options.cache) or options.fresh:
            (here if options.here else apart)(name, options.cache)
    rows = cached(options.cache)
    if not options.here and all(name in rows for name in ENTRIES):
        PAGE.write_text(page({name: rows[name] for name in ENTRIES}), encoding="utf-8")


def here(name: str, cache: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        try:
            row: dict[str, Any] = totals(ENTRIES[name], Path(folder))
        except Exception as error:  # one model must not stop the run
            row = {"error": f"{type(error).__name__}: {one_line(error)}"}
    cache.write_text(json.dumps({**cached(cache), name: row}, indent=1))
    print(name, row, "" if "error" in row else "equal" if equal(row) else "*** DIFFER", flush=True)


def apart(name: str, cache: Path) -> None:
    command = [sys.executable, "-m", f"{__package__}.totals", name, "--here", "--fresh", "--cache", str(cache)]
    if status := subprocess.run(command, check=False).returncode:
        cache.write_text(json.dumps({**cached(cache), name: {"error": f"the process ended with status {status}"}}))


def cached(path: Path) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return rows


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def page(rows: dict[str, Any]) -> str:
    counted = {name: row for name, row in rows.items() if "error" not in row}
    same = sum(equal(row) for row in counted.values())
    lines = [f"| model | {' | '.join(COUNTERS)} | equal |", "|" + "---|" * (len(COUNTERS) + 2)]
    for name, row in counted.items():
        numbers = [f"{row[key]:.6g}" if isinstance(row[key], float) else "–" for key in COUNTERS]
        lines.append(f"| {name} | {' | '.join(numbers)} | {'yes' if equal(row) else '**no**'} |")
    reasons = [f"- {name}: {cell(row['error'])}" for name, row in rows.items() if "error" in row]
    reasons += [
        f"- {name}, export: {cell(row['export'])}" for name, row in counted.items() if isinstance(row["export"], str)
    ]
    reasons += [f"- models of `{family}`: not imported: {reason}" for family, reason in everything.MISSING.items()]
    return "\n".join(
        [
            "# One total, whoever counts",
            "",
            "Written by `python -m tests.zoo.totals`; not to be edited by hand. FLOP/s of every model of the zoo as",
            "`inspect` says it, and of the same model at 50 % as `fit`, `export` and `check` say it, beside torch's own",
            "counter on the saved programs.",
            "",
            f"{datetime.date.today()}, {versions()}.",
            "",
            f"**{same} of {len(counted)} equal; {len(rows) - len(counted)} not counted.**",
            "",
            *lines,
            "",
            "## Reasons",
            "",
            *reasons,
            "",
        ]
    )


if __name__ == "__main__":
    main()
