"""Train a keyword spotter from scratch; an interrupted run resumes from its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models import training
from sample_models.dscnn_kws import evaluate as ev
from sample_models.dscnn_kws.data import Batch, Keywords, batches_of, pool
from sample_models.dscnn_kws.sample import SPOTTER, Spotter
from sample_models.training import Options, save_weights

BATCH = 32
POOL = 8_192  # noisy items that training draws from, about 16 of each clip
SAVE_EVERY = 200  # steps
CHECK_EVERY = 500  # steps


@dataclass
class Run(training.Run):
    """Everything that changes during training."""

    batches: Iterator[Batch]

    def state(self) -> dict[str, Any]:
        return {**super().state(), "dropout": torch.get_rng_state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
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
    run.resume(options)
    return run


def step(run: Run) -> float:
    """One update; returns the loss."""
    features, classes = next(run.batches)
    return run.descend(loss_of(run.model(features), classes))


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
            run.save(options)
        if run.step % CHECK_EVERY == 0 or run.step == options.steps:
            result = ev.measure(run.model, val)
            print(f"step {run.step}  val error {result['error']:.2f} %", flush=True)
            since = time.perf_counter()
    return run.model.eval()


def main(spotter: Spotter, argv: Sequence[str] | None = None) -> None:
    """Command line."""
    options = Options.read(__doc__, 2_500, 5e-3, argv)
    model = train(spotter, options)
    save_weights(model.state_dict(), options.output)
    options.checkpoint.unlink(missing_ok=True)
    for split in ("val", "test"):
        print(f"{split}\n{ev.report(model, ev.fixed(options.data, split, spotter.features))}")


if __name__ == "__main__":
    main(SPOTTER)
