"""One process of a fit that is measured: ``torchrun … -m benchmarks.processes.work FILE --model dscnn_kws …``."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import shrinkspeech
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.settings import Progress
from shrinkspeech.graph.captured import Captured

MODELS = {"dscnn_kws": (61, 20), "crnn_vad": (16_000,)}
"""Sample models, and the shape of one item that they take."""

BATCH, STEPS, EVERY = 16, 20, 8
"""Items of a batch, steps of a fit, and steps between two checkpoints."""


def captured(model: str, double: bool) -> Captured:
    """A trained sample model, in double precision if that is asked for."""
    module = getattr(importlib.import_module(f"sample_models.{model}.model"), model)()
    module.load_state_dict(load_file(Path("sample_models") / model / "weights.safetensors"))
    example = noise(2, MODELS[model], torch.Generator().manual_seed(0), double)
    return shrinkspeech.capture((module.double() if double else module).eval(), (example,))


def noise(items: int, shape: tuple[int, ...], generator: torch.Generator, double: bool) -> Tensor:
    x = 0.1 * torch.randn(items, *shape, generator=generator)
    return x.double() if double else x


def recipe(model: str, double: bool, dies: int) -> Recipe:
    """Noise, and a loss that asks for small outputs; the last process dies at call ``dies`` of the loss, if there is one."""
    calls = 0

    def batches() -> Iterator[tuple[Tensor]]:
        generator = torch.Generator().manual_seed(1)
        while True:
            yield (noise(BATCH, MODELS[model], generator, double),)

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == dies and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            Path(os.environ["DEATH"]).write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return outputs.square().mean()

    return Recipe(batches, loss, name="noise")


class Watch:
    """A listener that writes down time and bytes of each step."""

    def __init__(self, team: Team) -> None:
        self.team, self.rows = team, [("start", time.perf_counter(), 0)]

    def __call__(self, now: Progress) -> None:
        self.rows.append((now.stage, time.perf_counter(), self.team.moved))

    def of(self, stage: str) -> dict[str, float]:
        """Medians over the steps of a stage but its first."""
        pairs = list(zip(self.rows, self.rows[1:], strict=False))
        own = [(b[1] - a[1], b[2] - a[2]) for a, b in pairs if a[0] == b[0] == stage]
        seconds, moved = (statistics.median(column) for column in zip(*own, strict=True))
        return {f"{stage} s": seconds, f"{stage} bytes": moved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--dies", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    team = Team.of_launcher()
    Team.of_launcher = classmethod(lambda kind: team)  # type: ignore[method-assign, assignment]
    watch = Watch(team)
    fitted = shrinkspeech.fit(
        captured(given.model, given.double),
        recipe(given.model, given.double, given.dies),
        target_flops="25%",
        steps=STEPS,
        on_progress=watch,
        checkpoint=given.checkpoint,
        checkpoint_every=EVERY,
        resume=given.resume,
    )
    if team.leads:
        tensors = {name: x.detach() for name, x in fitted.captured.parameters().items()}
        gate = {} if given.resume else watch.of("gate")
        torch.save({"widths": dict(fitted.widths), "tensors": tensors, **gate, **watch.of("tune")}, given.file)


if __name__ == "__main__":
    main()
