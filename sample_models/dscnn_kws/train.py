"""Train a keyword spotter from scratch; an interrupted run resumes from its checkpoint."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models.dscnn_kws import evaluate as ev
from sample_models.dscnn_kws.data import Batch, Keywords, batches_of, pool
from sample_models.dscnn_kws.sample import SPOTTER, Spotter

BATCH = 32
POOL = 8_192  # noisy items that training draws from, about 16 of each clip
SAVE_EVERY = 200  # steps
CHECK_EVERY = 500  # steps


@dataclass(frozen=True)
class Options:
    """Command line of a training run."""

    data: Path
    output: Path
    steps: int
    seed: int
    lr: float

    @property
    def checkpoint(self) -> Path:
        return self.output.with_suffix(".checkpoint")

    @property
    def key(self) -> tuple[int, int, float]:
        return self.steps, self.seed, self.lr


@dataclass
class Run:
    """Everything that changes during training."""

    model: nn.Module
    optimizer: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.OneCycleLR
    batches: Iterator[Batch]
    step: int = 0

    def state(self, options: Options) -> dict[str, Any]:
        return {
            "options": options.key,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "dropout": torch.get_rng_state(),
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        for _ in range(self.step):
            next(self.batches)
        torch.set_rng_state(state["dropout"])


def loss_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean cross entropy of logits [B, keywords] against classes [B]."""
    return F.cross_entropy(logits, classes)


def start(spotter: Spotter, options: Options) -> Run:
    """Seed, build the model, and resume if a matching checkpoint exists."""
    torch.manual_seed(options.seed)
    model = spotter.factory()
    words = Keywords(options.data, "train", spotter.features, options.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps)
    run = Run(model, optimizer, schedule, batches_of(pool(words, POOL), BATCH, options.seed))
    if options.checkpoint.exists():
        state = torch.load(options.checkpoint, weights_only=True)
        if state["options"] != options.key:
            raise SystemExit(f"{options.checkpoint} is from other options: delete it or repeat them")
        run.restore(state)
        print(f"resumed at step {run.step}", flush=True)
    return run


def step(run: Run) -> float:
    """One update; returns the loss."""
    features, classes = next(run.batches)
    loss = loss_of(run.model(features), classes)
    run.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.schedule.step()
    run.step += 1
    return loss.item()


def save_checkpoint(run: Run, options: Options) -> None:
    """Write beside, then rename, so that a cut never leaves half a file."""
    beside = options.checkpoint.with_suffix(".checkpoint.part")
    torch.save(run.state(options), beside)
    os.replace(beside, options.checkpoint)


def save_weights(model: nn.Module, output: Path) -> None:
    """Write the weights as safetensors beside `output`, then rename."""
    beside = output.with_name(output.name + ".part")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, beside)
    os.replace(beside, output)


def train(spotter: Spotter, options: Options) -> nn.Module:
    """Run all steps, with a line every 100 and a validation check every CHECK_EVERY."""
    run = start(spotter, options)
    val = ev.fixed(options.data, "val", spotter.features)
    run.model.train()
    total, since = 0.0, time.perf_counter()
    while run.step < options.steps:
        total += step(run)
        if run.step % 100 == 0:
            now = time.perf_counter()
            rate, since = (now - since) / 100, now
            print(f"step {run.step}  loss {total / 100:.4f}  {rate:.3f} s/step", flush=True)
            total = 0.0
        if run.step % SAVE_EVERY == 0:
            save_checkpoint(run, options)
        if run.step % CHECK_EVERY == 0 or run.step == options.steps:
            result = ev.measure(run.model, val)
            print(f"step {run.step}  val error {result['error']:.2f} %", flush=True)
            since = time.perf_counter()
    return run.model.eval()


def main(spotter: Spotter, argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--steps", type=int, default=2_500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    options = Options(given.data, given.output, given.steps, given.seed, given.lr)
    model = train(spotter, options)
    save_weights(model, options.output)
    options.checkpoint.unlink(missing_ok=True)
    for split in ("val", "test"):
        print(f"{split}\n{ev.report(model, ev.fixed(options.data, split, spotter.features))}")


if __name__ == "__main__":
    main(SPOTTER)
