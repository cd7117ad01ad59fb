"""Train the detector from scratch and keep the weights that validate best; a cut run resumes from its checkpoint."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from sample_models import training
from sample_models.crnn_vad.data import Batch
from sample_models.crnn_vad.evaluate import format_report
from sample_models.crnn_vad.train import loss_of
from sample_models.training import Options, save_weights
from sample_models.transformer_vad import evaluate as ev
from sample_models.transformer_vad.data import mixtures, pooled
from sample_models.transformer_vad.model import transformer_vad

BATCH = 32
RENEW_EVERY = 100  # steps on one pool of mixtures: four crops of each
CHECK_EVERY = 2 * RENEW_EVERY  # steps, also between checkpoints


@dataclass
class Run(training.Run):
    """Everything that changes during training."""

    best: dict[str, Tensor]  # weights of the lowest EER on val
    lowest: float = 100.0  # that EER in %

    def state(self) -> dict[str, Any]:
        return {**super().state(), "best": self.best, "lowest": self.lowest}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.best, self.lowest = state["best"], state["lowest"]


def start(options: Options) -> Run:
    """Seed, build the model, fit its feature normalisation, and resume if a matching checkpoint exists."""
    torch.manual_seed(options.seed)
    model = transformer_vad()
    examples = mixtures(options.data, "train", options.seed).fixed(300)
    model.features.fit(torch.cat([wave for wave, _ in examples]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps, pct_start=0.1)
    run = Run(model, optimizer, schedule, copy.deepcopy(model.state_dict()))
    run.resume(options)
    return run


def batches(run: Run, options: Options) -> Iterator[Batch]:
    """Endless batches from the run's step on, which is one where the pool is new."""
    while True:
        seed = 10_000 * (options.seed + 1) + run.step // RENEW_EVERY
        yield from islice(pooled(options.data, seed, BATCH), RENEW_EVERY)


def step(run: Run, batch: Batch) -> float:
    """One update; returns the loss."""
    wave, labels = batch
    return run.descend(loss_of(run.model(wave), labels))


def check(run: Run, options: Options) -> dict[str, float]:
    """Measure on val, keep the weights if they are the best so far, and write a checkpoint."""
    result = ev.report(run.model, options.data, "val")["all"]
    if result["eer"] < run.lowest:
        run.lowest, run.best = result["eer"], copy.deepcopy(run.model.state_dict())
    run.save(options)
    return result


def train(options: Options) -> nn.Module:
    """Run all steps with a check every CHECK_EVERY; the model has the best weights then, and the file too."""
    run = start(options)
    run.model.train()
    data = batches(run, options)
    losses, since = 0.0, time.perf_counter()
    while run.step < options.steps:
        losses += step(run, next(data))
        if run.step % CHECK_EVERY == 0 or run.step == options.steps:
            pace = (time.perf_counter() - since) / CHECK_EVERY
            result = check(run, options)
            found = f"val EER {result['eer']:.2f} %  AUC {result['auc']:.4f}"
            print(f"step {run.step}  loss {losses / CHECK_EVERY:.4f}  {found}  {pace:.3f} s/step", flush=True)
            losses, since = 0.0, time.perf_counter()
    run.model.load_state_dict(run.best)
    save_weights(run.best, options.output)
    return run.model.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options = Options.read(__doc__, 3_600, 2e-3, argv)
    model = train(options)
    options.checkpoint.unlink(missing_ok=True)
    print(format_report(ev.report(model, options.data, "val")))


if __name__ == "__main__":
    main()
