"""One run: shrink, tune, test."""

from __future__ import annotations

import os
import platform
import subprocess
import time
import traceback
from datetime import date
from typing import Any

import torch

import shrinkspeech
from benchmarks.quality import rows
from benchmarks.quality.cases import Case
from benchmarks.quality.methods import shrink
from benchmarks.quality.rows import Run


def perform(run: Run) -> Run | None:
    """Measure one run in this process and write its row; a method that cannot do it is noted. A run that fails comes back."""
    torch.set_num_threads(1)
    try:
        row = measure(run)
    except Exception as error:
        print("FAILED", *run.key(), type(error).__name__, error, flush=True)
        if type(error).__name__ == "Unsupported":
            rows.note_unsupported(run, str(error))
            return None
        traceback.print_exc()
        return run
    rows.append(row)
    print(*(row[name] for name in ("model", "method", "budget", "seed", "share", "value", "duration")), flush=True)
    return None


def measure(run: Run) -> dict[str, Any]:
    """A row of results."""
    case = Case(run.model)
    started = time.perf_counter()
    shrunk = shrink(case, run.method, float(run.budget.rstrip("%")) / 100, run.steps, run.rate, run.seed)
    duration = time.perf_counter() - started
    if run.method != "original" and shrunk.share > float(run.budget.rstrip("%")) / 100 * (1 + 1e-6):
        raise ValueError(f"{run.method} hands back {shrunk.share:.4f} of the FLOP/s, above {run.budget}")
    shrunk.module.eval()
    with torch.no_grad():
        found = dict(case.recipe.test(shrunk.module))
    value = found.pop(case.recipe.METRIC)
    return {
        "model": run.model,
        "method": run.method,
        "budget": run.budget,
        "seed": run.seed,
        "steps": run.steps,
        "rate": run.rate,
        "metric": case.recipe.METRIC,
        "value": f"{value:.4f}",
        "others": " ".join(f"{name}={number:.5g}" for name, number in found.items()),
        "share": f"{shrunk.share:.5f}",
        "flops": f"{shrinkspeech.flops(shrunk.captured, seconds=case.recipe.SECONDS):.0f}",
        "params": sum(p.numel() for p in shrunk.module.parameters()),
        "widths": " ".join(f"{name}={width}" for name, width in shrunk.widths.items()),
        "duration": f"{duration:.1f}",
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
