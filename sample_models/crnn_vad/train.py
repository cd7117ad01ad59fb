"""Train the detector from scratch; an interrupted run resumes from its checkpoint."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models.crnn_vad import evaluate as ev
from sample_models.crnn_vad.data import Mixtures
from sample_models.crnn_vad.model import CRNNVAD, crnn_vad

BATCH = 32
SAVE_EVERY = 100  # steps
CHECK_EVERY = 200  # steps
CHECK_MIXTURES = 90


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


@dataclass
class Run:
    """Everything that changes during training."""

    model: CRNNVAD
    optimizer: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.OneCycleLR
    mixtures: Mixtures
    step: int = 0

    def state(self, options: Options) -> dict[str, object]:
        return {
            "options": (options.steps, options.seed, options.lr),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": self.mixtures.rng.bit_generator.state,
            "step": self.step,
        }

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.mixtures.rng.bit_generator.state = state["rng"]
        self.step = state["step"]


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over all frames; both arguments [B, frames]."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def start(options: Options) -> Run:
    """Seed, build the model, fit its feature normalisation, and resume if a matching checkpoint exists."""
    torch.manual_seed(options.seed)
    model = crnn_vad()
    mixtures = Mixtures(options.data, "train", options.seed)
    model.features.fit(torch.cat([wave for wave, _ in mixtures.fixed(300)]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps)
    run = Run(model, optimizer, schedule, mixtures)
    if options.checkpoint.exists():
        state = torch.load(options.checkpoint, weights_only=True)
        if state["options"] != (options.steps, options.seed, options.lr):
            raise SystemExit(f"{options.checkpoint} is from other options: delete it or repeat them")
        run.restore(state)
        print(f"resumed at step {run.step}", flush=True)
    return run


def step(run: Run) -> float:
    """One update; returns the loss."""
    wave, labels = run.mixtures.batch(BATCH)
    loss = loss_of(run.model(wave), labels)
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


def save_weights(model: CRNNVAD, output: Path) -> None:
    """Write the weights as safetensors beside `output`, then rename."""
    beside = output.with_name(output.name + ".part")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, beside)
    os.replace(beside, output)


def train(options: Options) -> CRNNVAD:
    """Run all steps, with a line every 20 and a validation check every CHECK_EVERY."""
    run = start(options)
    val = Mixtures(options.data, "val", ev.VAL_SEED).fixed(CHECK_MIXTURES)
    run.model.train()
    total, since = 0.0, time.perf_counter()
    while run.step < options.steps:
        total += step(run)
        if run.step % 20 == 0:
            now = time.perf_counter()
            rate, since = (now - since) / 20, now
            print(f"step {run.step}  loss {total / 20:.4f}  {rate:.3f} s/step", flush=True)
            total = 0.0
        if run.step % SAVE_EVERY == 0:
            save_checkpoint(run, options)
        if run.step % CHECK_EVERY == 0:
            result = ev.measure(*ev.frame_scores(run.model, val))
            print(f"step {run.step}  val EER {result['eer']:.2f} %  AUC {result['auc']:.4f}", flush=True)
            since = time.perf_counter()
    return run.model.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    options = Options(given.data, given.output, given.steps, given.seed, given.lr)
    model = train(options)
    save_weights(model, options.output)
    options.checkpoint.unlink(missing_ok=True)
    print(
        ev.format_report(
            ev.report(model, Mixtures(options.data, "test", ev.TEST_SEED).fixed_with_snr(ev.TEST_MIXTURES))
        )
    )


if __name__ == "__main__":
    main()
