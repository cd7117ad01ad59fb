"""What a fit costs: time and memory of a whole fit against plain fine-tuning of the original for as many steps.

    python -m benchmarks.fit_cost --steps 100 --repeats 3

On the CRNN voice activity detector with random audio, on one thread. Fit and fine-tuning take turns, each in a process
of its own, whose peak memory the operating system tells; the time starts after imports and capture. Then come single
steps, before anything is re-sliced, against a plain step of the original, in one process and in turns: as a fit with default
settings begins (after its warm start at twice the budget, with the original's outputs), and with gates around the whole model.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.fitting.recipe import Recipe, load_recipe
from shrinkspeech.fitting.settings import Settings, Standing
from shrinkspeech.fitting.stages.gate import Gates
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.stages.warm_start import WarmStart
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.part import Part

BATCH, SAMPLES = 16, 32_000
SHARE = 0.25


def recipe() -> Recipe:
    """Noise and random labels: [BATCH, SAMPLES] and [BATCH, frames]."""

    def train_batches() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        frames = SAMPLES // 160 + 1
        while True:
            labels = torch.rand(BATCH, frames, generator=generator).round()
            yield 0.1 * torch.randn(BATCH, SAMPLES, generator=generator), labels

    loss = nn.functional.binary_cross_entropy_with_logits
    return load_recipe(SimpleNamespace(train_batches=train_batches, loss=lambda outputs, item: loss(outputs, item[1])))


def original() -> Captured:
    from sample_models.crnn_vad.model import crnn_vad

    torch.manual_seed(0)
    return shrinkspeech.capture(crnn_vad().eval(), (0.01 * torch.randn(2, 16_000),))


def trainer(captured: Captured, steps: int, distil: float) -> Trainer:
    return Trainer(captured, recipe(), Settings(distil=distil), steps, 1e-3, lambda progress: None)


def plain(captured: Captured, steps: int) -> Callable[[], None]:
    """Fine-tuning of the original with the fit's own loop, one step for each call."""
    loop = trainer(captured, steps, 0.0)
    module = captured.module()
    weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
    prepared, optimiser = loop.prepare(module, weights, {})
    standing = Standing("plain", 0.0, 0.0, Flops, 0.0)
    return lambda: loop.descend(prepared, optimiser, weights, standing)


def job(captured: Captured, steps: int, distil: float) -> Job:
    """A fit of the whole model to SHARE of its FLOP/s; ``distil`` as in ``Settings``."""
    groups = shrinkspeech.label(captured)
    goal = Goal.whole(Flops, captured, groups).towards(Flops.parse(f"{SHARE}x"))
    return Job(trainer(captured, steps, distil), Part.whole(captured, groups), goal, seed=0)


def gated(captured: Captured, steps: int, distil: float) -> Callable[[], None]:
    """Steps at half the cost with all gates in place and nothing re-sliced."""
    shared = job(captured, steps, distil)
    gates = Gates(shared, shared.whole)
    return lambda: gates.step(0.5 * shared.goal.original, 8.0)


def begun(captured: Captured, steps: int) -> Callable[[], None]:
    """The first gated steps of a fit with its default settings: after the warm start, with the original's outputs."""
    shared = job(captured, steps, Settings().distil)
    draft = WarmStart(shared).improve(shared.draft())
    gates = Gates(shared, draft.part)
    return lambda: gates.step(0.99 * draft.cost, Settings().window)


def whole(kind: str, steps: int) -> dict[str, float]:
    """Time in s and peak memory in bytes of one whole run, in this process."""
    captured = original()
    start = time.perf_counter()
    if kind == "fit":
        shrinkspeech.fit(captured, recipe(), f"{100 * SHARE}%", steps=steps, learning_rate=1e-3)
    else:
        step = plain(captured, steps)
        for _ in range(steps):
            step()
    return {
        "time": time.perf_counter() - start,
        "memory": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def elsewhere(kind: str, steps: int) -> dict[str, float]:
    """``whole`` in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fit_cost", "--steps", str(steps), "--only", kind]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def single_steps(repeats: int) -> dict[str, float]:
    """Median times in s of gated steps and of a plain step of the original, in turns."""
    captured = original()
    calls = {
        "gated, as a fit begins": begun(captured, repeats),
        "gated, of the whole model": gated(captured, repeats, 0.0),
        "gated, of the whole model, with the original's outputs": gated(captured, repeats, 1.0),
        "plain": plain(captured, repeats),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["fit", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        print(json.dumps(whole(options.only, options.steps)))
        return
    pairs = [(elsewhere("fit", options.steps), elsewhere("plain", options.steps)) for _ in range(options.repeats)]
    rows: list[tuple[str, Any, Any, float]] = []
    for name, scale, unit in (("time", 1.0, "s"), ("memory", 1e6, "MB")):
        a, b = (statistics.median(pair[i][name] / scale for pair in pairs) for i in (0, 1))
        rows.append(
            (
                f"whole, {options.steps} steps: {name} ({unit})",
                a,
                b,
                statistics.median(x[name] / y[name] for x, y in pairs),
            )
        )
    steps = single_steps(max(10, options.steps // 4))
    b = steps.pop("plain")
    rows += [(f"one step, {name}, before re-slicing: time (ms)", 1e3 * a, 1e3 * b, a / b) for name, a in steps.items()]
    print("| | fit | plain fine-tuning | ratio |\n|---|---|---|---|")
    for name, first, second, ratio in rows:
        print(f"| {name} | {first:.1f} | {second:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
