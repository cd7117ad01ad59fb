"""Train the detector from scratch; an interrupted run resumes from its checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models import training
from sample_models.crnn_vad import evaluate as ev
from sample_models.crnn_vad.data import Mixtures
from sample_models.crnn_vad.model import crnn_vad
from sample_models.training import Options, save_weights

BATCH = 32
SAVE_EVERY = 100  # steps
CHECK_EVERY = 200  # steps
CHECK_MIXTURES = 90


@dataclass
class Run(training.Run):
    """Everything that changes during training."""

    mixtures: Mixtures

    def state(self) -> dict[str, Any]:
        return {**super().state(), "rng": self.mixtures.rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.mixtures.rng.bit_generator.state = state["rng"]


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
    run.resume(options)
    return run


def step(run: Run) -> float:
    """One update; returns the loss."""
    wave, labels = run.mixtures.batch(BATCH)
    return run.descend(loss_of(run.model(wave), labels))


def train(options: Options) -> nn.Module:
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
            run.save(options)
        if run.step % CHECK_EVERY == 0:
            result = ev.measure(*ev.frame_scores(run.model, val))
            print(f"step {run.step}  val EER {result['eer']:.2f} %  AUC {result['auc']:.4f}", flush=True)
            since = time.perf_counter()
    return run.model.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options = Options.read(__doc__, 1_000, 3e-3, argv)
    model = train(options)
    save_weights(model.state_dict(), options.output)
    options.checkpoint.unlink(missing_ok=True)
    print(
        ev.format_report(
            ev.report(model, Mixtures(options.data, "test", ev.TEST_SEED).fixed_with_snr(ev.TEST_MIXTURES))
        )
    )


if __name__ == "__main__":
    main()
