"""Error against FLOP/s: every model, method, budget and seed, with the same steps and data.

    python -m benchmarks.quality --data DIR --models crnn_vad dscnn_kws --methods ours "tp-uniform-taylor" --seeds 0 1 2

Rows go to ``benchmarks/results/quality.csv``; a row that is there is not measured again, so a run that was cut goes on
where it stopped. ``--speed`` times ONNX files of the fitted widths; ``--table``, ``--plot`` and ``--readme`` only show
what is there. A seed changes the training data and, where there is one, the noise of the method.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.quality import rows
from benchmarks.quality.cases import NAMES, Case
from benchmarks.quality.measuring import perform
from benchmarks.quality.methods import names
from benchmarks.quality.rows import Run

BUDGETS = ("50%", "25%", "12.5%", "6.25%")


def plan(options: argparse.Namespace) -> Iterator[Run]:
    """Seed by seed, so that every cell has its first value early."""
    for seed in options.seeds:
        for model in options.models:
            recipe = Case(model).recipe
            for budget in options.budgets:
                for method in options.methods:
                    steps, rate = options.steps or recipe.STEPS, options.rate or recipe.RATE
                    if method == "original":
                        yield Run(model, method, "100%", 0, 0, 0.0)
                    else:
                        yield Run(model, method, budget, seed, steps, rate)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with speech.csv, noise.csv and spoof.csv (or set SHRINKSPEECH_DATA)")
    parser.add_argument("--models", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=["original", "ours"], choices=names(), metavar="METHOD")
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="optimiser steps of every run (default: the model's own)")
    parser.add_argument("--rate", type=float, help="peak learning rate (default: the model's own)")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--speed", action="store_true", help="time ONNX files of the widths that are there, and stop")
    parser.add_argument("--table", action="store_true", help="print means and deviations, and stop")
    parser.add_argument("--plot", type=Path, help="write the plot here, and stop")
    parser.add_argument("--readme", action="store_true", help="write each model's table into its README, and stop")
    options = parser.parse_args(arguments)
    if options.speed:
        from benchmarks.quality import speed

        speed.measure(options.models, options.budgets[:3])
        return
    if options.table or options.plot or options.readme:
        from benchmarks.quality import showing

        showing.show(options)
        return
    if options.data:
        os.environ["SHRINKSPEECH_DATA"] = options.data
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wanted = list(dict.fromkeys(plan(options)))
    known = rows.done() | rows.unsupported()
    left = [run for run in wanted if run.key() not in known]
    print(f"{len(wanted)} runs, {len(left)} to be made", flush=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.workers, maxtasksperchild=20) as pool:
        failed = [run for run in pool.imap_unordered(perform, left) if run is not None]
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {'; '.join(' '.join(run.key()) for run in failed)}")


if __name__ == "__main__":
    main()
