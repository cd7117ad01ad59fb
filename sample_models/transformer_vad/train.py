"""Train the detector from scratch and keep the weights that validate best; a cut run resumes from its checkpoint."""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sample_models.crnn_vad.data import Batch
from sample_models.crnn_vad.evaluate import format_report
from sample_models.crnn_vad.train import Options, loss_of
from sample_models.transformer_vad import evaluate as ev
from sample_models.transformer_vad.data import mixtures, pooled
from sample_models.transformer_vad.model import TransformerVAD, transformer_vad

BATCH = 32
RENEW_EVERY = 100  # steps on one pool of mixtures: four crops of each
CHECK_EVERY = 2 * RENEW_EVERY  # steps, also between checkpoints


@dataclass
class Run:
    """Everything that changes during training."""

    model: TransformerVAD
    optimizer: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.OneCycleLR
    best: dict[str, Tensor]  # weights of the lowest EER on val
    lowest: float = 100.0  # that EER in %
    step: int = 0

    def state(self, options: Options) -> dict[str, object]:
        return {
            "options": (options.steps, options.seed, options.lr),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best": self.best,
            "lowest": self.lowest,
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.best, self.lowest, self.step = state["best"], state["lowest"], state["step"]


def start(options: Options) -> Run:
    """Seed, build the model, fit its feature normalisation, and resume if a matching checkpoint exists."""
    torch.manual_seed(options.seed)
    model = transformer_vad()
    examples = mixtures(options.data, "train", options.seed).fixed(300)
    model.features.fit(torch.cat([wave for wave, _ in examples]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps, pct_start=0.1)
    run = Run(model, optimizer, schedule, copy.deepcopy(model.state_dict()))
    if options.checkpoint.exists():
        state = torch.load(options.checkpoint, weights_only=True)
        if state["options"] != (options.steps, options.seed, options.lr):
            raise SystemExit(f"{options.checkpoint} is from other options: delete it or repeat them")
        run.restore(state)
        print(f"resumed at step {run.step}", flush=True)
    return run


def batches(run: Run, options: Options) -> Iterator[Batch]:
    """Endless batches from the run's step on, which is one where the pool is new."""
    while True:
        seed = 10_000 * (options.seed + 1) + run.step // RENEW_EVERY
        yield from islice(pooled(options.data, seed, BATCH), RENEW_EVERY)


def step(run: Run, batch: Batch) -> float:
    """One update; returns the loss."""
    wave, labels = batch
    loss = loss_of(run.model(wave), labels)
    run.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.schedule.step()
    run.step += 1
    return loss.item()


def check(run: Run, options: Options) -> dict[str, float]:
    """Measure on val, keep the weights if they are the best so far, and write a checkpoint."""
    result = ev.report(run.model, options.data, "val")["all"]
    if result["eer"] < run.lowest:
        run.lowest, run.best = result["eer"], copy.deepcopy(run.model.state_dict())
    beside = options.checkpoint.with_suffix(".checkpoint.part")
    torch.save(run.state(options), beside)
    os.replace(beside, options.checkpoint)
    return result


def save_weights(weights: dict[str, Tensor], output: Path) -> None:
    """Write safetensors beside `output`, then rename."""
    beside = output.with_name(output.name + ".part")
    save_file({name: value.contiguous() for name, value in weights.items()}, beside)
    os.replace(beside, output)


def train(options: Options) -> TransformerVAD:
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--steps", type=int, default=3_600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    options = Options(given.data, given.output, given.steps, given.seed, given.lr)
    model = train(options)
    options.checkpoint.unlink(missing_ok=True)
    print(format_report(ev.report(model, options.data, "val")))


if __name__ == "__main__":
    main()
