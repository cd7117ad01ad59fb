"""What whole multiples of channels are worth in onnxruntime: the time of one model at widths rounded to 1, 4, 8 and 16.

    python -m benchmarks.rounding --model dscnn_kws --target 0.5

Uniform widths, one item of the example's length, one thread, all files in turns in one process; no training.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import torch

import shrinkspeech
from benchmarks.quality.cases import NAMES, Case
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.latency_model import session_of, single
from shrinkspeech.budget.widths import uniform
from shrinkspeech.export.timing import in_turns

STEPS = (1, 4, 8, 16)
REPEATS = 200


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dscnn_kws", choices=NAMES)
    parser.add_argument("--target", type=float, default=0.5, help="share of the FLOP/s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    case = Case(options.model)
    captured = case.captured()
    groups = shrinkspeech.label(captured)
    original = shrinkspeech.flops(captured, groups, seconds=case.recipe.SECONDS)
    models = {"original": captured}
    for step in STEPS:
        goal = Goal.whole(Flops, captured, groups, case.recipe.SECONDS, step)
        widths = uniform(goal, options.target * original)
        models[f"multiples of {step}"] = shrinkspeech.slice(captured, groups, widths)
    times = in_turns([session_of(model) for model in models.values()], single(captured), REPEATS)
    first = statistics.median(times[0])
    print("| widths | FLOP/s | time (ms) | of the original's |\n|---|---|---|---|")
    for (name, model), found in zip(models.items(), times, strict=True):
        share = 100 * shrinkspeech.flops(model, seconds=case.recipe.SECONDS) / original
        median = statistics.median(found)
        print(f"| {name} | {share:.1f} % | {1e3 * median:.3f} | {median / first:.2f} × |")


if __name__ == "__main__":
    main()
