"""What a sweep saves: its time and its errors against those of separate fits to the same budgets.

    python -m benchmarks.sweep_cost --models tcresnet_kws dscnn_kws --data DIR --seeds 0 1 2

Separate fits and two sweeps (as many steps for each budget, and half as many) take turns in one process on one thread. The
time is that of the fits alone; errors are on the test split.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

import shrinkspeech
from benchmarks.quality.cases import NAMES, Case
from benchmarks.quality.cells import Cell
from shrinkspeech.fitting.report import Fitted

BUDGETS = ("50%", "25%", "12.5%", "6.25%")


def separate(case: Case, captured: Any, seed: int, steps: int, options: dict[str, Any]) -> list[Fitted]:
    """One fit of the original for each budget."""
    return [
        shrinkspeech.fit(captured, case.seeded(seed), budget, seed=seed, steps=steps, **options) for budget in BUDGETS
    ]


def together(case: Case, captured: Any, seed: int, steps: int, options: dict[str, Any]) -> list[Fitted]:
    """One sweep."""
    return shrinkspeech.sweep(captured, case.seeded(seed), BUDGETS, seed=seed, steps=steps, **options)


def measure(case: Case, seeds: Sequence[int], steps: int) -> dict[str, list[list[float]]]:
    """For each way of doing it and each seed: time in s, then the metric at each budget."""
    recipe, captured = case.recipe, case.captured()
    options = {"seconds": recipe.SECONDS, "learning_rate": recipe.RATE, "evaluate": False}
    ways = {
        f"separate fits of {steps} steps": (separate, steps),
        f"sweep, {steps} steps for each budget": (together, steps),
        f"sweep, {steps // 2} steps for each budget": (together, steps // 2),
    }
    found: dict[str, list[list[float]]] = defaultdict(list)
    next(iter(case.seeded(seeds[0]).train_batches()))  # what a recipe prepares once is no part of any way
    for seed in seeds:
        next(iter(case.seeded(seed).train_batches()))
        for name, (way, steps) in ways.items():
            start = time.perf_counter()
            models = way(case, captured, seed, steps, options)
            duration = time.perf_counter() - start
            with torch.no_grad():
                values = [recipe.test(fitted.captured.graph_module.eval())[recipe.METRIC] for fitted in models]
            found[name].append([duration, *values])
            print("#", case.name, seed, name, f"{duration:.1f} s", *(f"{value:.2f}" for value in values), flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with speech.csv, noise.csv and spoof.csv (or set SHRINKSPEECH_DATA)")
    parser.add_argument("--models", nargs="+", default=["tcresnet_kws", "dscnn_kws"], choices=NAMES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of a separate fit")
    options = parser.parse_args(arguments)
    if options.data:
        os.environ["SHRINKSPEECH_DATA"] = options.data
    torch.set_num_threads(1)
    lines = ["| model | | time | " + " | ".join(BUDGETS) + " |", "|---" * (len(BUDGETS) + 3) + "|"]
    for model in options.models:
        found = measure(Case(model), options.seeds, options.steps)
        first = statistics.mean(row[0] for row in next(iter(found.values())))
        for name, rows in found.items():
            ratio = statistics.mean(row[0] for row in rows) / first
            cells = [str(Cell(tuple(row[1 + i] for row in rows), (), ())) for i in range(len(BUDGETS))]
            lines.append(f"| {model} | {name} | {ratio:.2f} × | " + " | ".join(cells) + " |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
