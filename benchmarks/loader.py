"""How fast the loader makes batches: items/s from memory and from files, for every number of worker processes.

    python -m benchmarks.loader --data DIR

DIR holds speech.csv and noise.csv. A training step of the sample detector takes 32 mixtures; the loader is fast enough if
it makes more of them than the step uses up. ``share`` is the part of a step that is spent waiting for the loader.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from sample_models.crnn_vad.model import crnn_vad
from shrinkspeech.data.frontend import FrontEnd, parse_features
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import Source, open_source

BATCH = 32
RATE = 16_000


@dataclass(frozen=True)
class Case:
    """One kind of example."""

    name: str
    kind: str
    seconds: float
    options: DataOptions


def cases(data: Path) -> list[Case]:
    """Mixtures for voice activity, crops of keywords, and features of these."""
    noise = {"noise": data / "noise.csv", "noise_where": ("human_voice!=yes",)}
    speech = DataOptions(data / "speech.csv", batch_size=BATCH, **noise)  # type: ignore[arg-type]
    words = replace(speech, where=("corpus=picovoice_wakeword",))
    return [
        Case("3 s mixtures", "speech", 3.0, speech),
        Case("1 s keywords", "class", 1.0, words),
        Case("1 s keywords, log-mel", "class", 1.0, replace(words, features="logmel:40", masks=2)),
    ]


def opened(case: Case, cache_mb: float) -> Source:
    """The case with its audio in memory or not."""
    options = replace(case.options, cache_mb=cache_mb)
    frontend = None if options.features is None else FrontEnd(parse_features(options.features), RATE)
    return open_source(options, case.kind, round(case.seconds * RATE), frontend)


def items_per_second(source: Source, workers: int, batches: int) -> float:
    """Items/s after the first batches, which wait for the processes to start."""
    stream = source.train(workers=workers)
    for _ in range(1 + 3 * workers):
        next(stream)
    started = time.perf_counter()
    for _ in range(batches):
        next(stream)
    elapsed = time.perf_counter() - started
    stream.close()  # type: ignore[attr-defined]
    return batches * BATCH / elapsed


def step_times(source: Source, workers: int, steps: int) -> tuple[float, float]:
    """Seconds of a training step of the sample detector, and seconds of it spent waiting for the batch."""
    torch.manual_seed(0)
    model = crnn_vad()
    optimiser = torch.optim.AdamW(model.parameters())
    stream, waited, total = source.train(workers=workers), 0.0, 0.0
    for step in range(steps + 3):
        started = time.perf_counter()
        batch = next(stream)
        ready = time.perf_counter()
        labels = batch.target[:, torch.arange(0, 3_010, 10).clamp(max=2_999)]
        loss = F.binary_cross_entropy_with_logits(model(batch.x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step >= 3:
            waited += ready - started
            total += time.perf_counter() - started
    stream.close()  # type: ignore[attr-defined]
    return total / steps, waited / steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each case and place of the audio, and one for each number of workers beside a training step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("items/s with workers:".ljust(36), *(f"{count:>8}" for count in given.workers))
    for case in cases(given.data):
        for place, cache in (("memory", 1e6), ("files", 0.0)):
            source = opened(case, cache)
            found = [items_per_second(source, count, given.batches) for count in given.workers]
            print(f"{case.name}, from {place}".ljust(36), *(f"{value:8.0f}" for value in found), flush=True)
    source = opened(cases(given.data)[0], 1e6)
    for count in given.workers:
        step, waited = step_times(source, count, given.steps)
        print(
            f"step of {BATCH} with {count} workers: {step:.3f} s, waiting {waited:.3f} s, share {waited / step:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
