"""Equal error rate against FLOP/s on the CRNN voice activity detector, ours and baselines, with the same steps and data.

    python -m benchmarks.vad --data DIR --budgets 50% 25% --seeds 0 1 2 --methods ours uniform-l2

Rows go to ``benchmarks/results/vad.csv``; a row that is there already is not measured again. ``--table`` prints means
and deviations. A seed changes the order of the training data and the noise of the gates.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

import shrinkspeech
from shrinkspeech.fitting import Settings

RESULTS = Path(__file__).parent / "results" / "vad.csv"
WEIGHTS = Path(__file__).parents[1] / "sample_models" / "crnn_vad" / "weights.safetensors"
FIELDS = "model method budget seed steps rate share eer auc params widths duration threads date commit machine".split()

UNIFORM = {"gate_share": 0.0, "warm_start": 1.0}
METHODS: dict[str, Settings] = {
    "ours": Settings(),
    "ours, gates for 40 %": Settings(gate_share=0.4),
    "ours, w = 1": Settings(window=1.0),
    "uniform-taylor-fold": Settings(**UNIFORM),
    "uniform-l2": Settings(**UNIFORM, score="magnitude", fold=False),
}
"""``uniform-l2``: the same share of every group, the units of largest L2 norm over all their weights."""


@dataclass(frozen=True)
class Run:
    method: str
    budget: str
    seed: int
    steps: int
    rate: float

    def key(self) -> tuple[str, ...]:
        return (self.method, self.budget, str(self.seed), str(self.steps), str(self.rate))


def recipe_for(seed: int) -> Any:
    """The sample model's recipe, with training data that depend on the seed."""
    from sample_models.crnn_vad import recipe
    from sample_models.crnn_vad.data import Mixtures

    def train_batches() -> Iterator[Any]:
        mixtures = Mixtures(recipe.data_dir(), "train", 1000 + seed)
        while True:
            yield mixtures.batch(recipe.BATCH)

    return SimpleNamespace(train_batches=train_batches, loss=recipe.loss, evaluate=recipe.evaluate)


def measure(run: Run) -> dict[str, Any]:
    """One fit (or, for the method ``original``, none) and its test error."""
    from sample_models.crnn_vad import recipe
    from sample_models.crnn_vad.model import load

    captured = shrinkspeech.capture(load(WEIGHTS), recipe.example_inputs())
    started = time.perf_counter()
    if run.method == "original":
        module, share, widths = captured.graph_module, 1.0, {}
    else:
        fitted = shrinkspeech.fit(
            captured,
            recipe_for(run.seed),
            run.budget,
            steps=run.steps,
            seed=run.seed,
            learning_rate=run.rate,
            settings=METHODS[run.method],
            evaluate=False,
        )
        module, widths = fitted.captured.graph_module, dict(fitted.widths)
        share = fitted.report.flops / fitted.report.original_flops
    duration = time.perf_counter() - started
    found = recipe.test(module)
    return {
        "model": "crnn_vad",
        "method": run.method,
        "budget": run.budget,
        "seed": run.seed,
        "steps": run.steps,
        "rate": run.rate,
        "share": f"{share:.5f}",
        "eer": f"{found['eer']:.3f}",
        "auc": f"{found['auc']:.5f}",
        "params": sum(p.numel() for p in module.parameters()),
        "widths": " ".join(f"{name}={width}" for name, width in widths.items()),
        "duration": f"{duration:.1f}",
        "threads": torch.get_num_threads(),
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def rows() -> list[dict[str, str]]:
    if not RESULTS.is_file():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(row: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.is_file()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def table() -> str:
    """Mean ± deviation over the seeds, as Markdown."""
    cells: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows():
        cells.setdefault((row["budget"], row["method"], row["steps"]), []).append(row)
    lines = ["| budget | method | steps | share of FLOP/s % | EER % | AUC | seeds |", "|---|---|---|---|---|---|---|"]
    for (budget, method, steps), found in sorted(cells.items()):
        share, eer, auc = ([float(row[name]) for row in found] for name in ("share", "eer", "auc"))
        lines.append(
            f"| {budget} | {method} | {steps} | {100 * statistics.mean(share):.2f} | {spread(eer, 2)} "
            f"| {spread(auc, 4)} | {len(found)} |"
        )
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with speech.csv and noise.csv (or set SHRINKSPEECH_DATA)")
    parser.add_argument("--budgets", nargs="+", default=["50%", "25%", "12.5%"])
    parser.add_argument("--methods", nargs="+", default=["ours", "uniform-l2"], choices=[*METHODS, "original"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    if options.data:
        os.environ["SHRINKSPEECH_DATA"] = options.data
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for budget in options.budgets:
            for method in options.methods:
                run = Run(method, budget, seed, options.steps, options.rate)
                if run.key() not in {
                    tuple(row[n] for n in ("method", "budget", "seed", "steps", "rate")) for row in rows()
                }:
                    row = measure(run)
                    append(row)
                    print(*(row[name] for name in ("method", "budget", "seed", "share", "eer", "duration")), flush=True)
    print(table())


if __name__ == "__main__":
    main()
