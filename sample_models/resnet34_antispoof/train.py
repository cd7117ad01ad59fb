"""Train the detector from scratch; an interrupted run resumes from its checkpoint."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models import training
from sample_models.resnet34_antispoof import evaluate as ev
from sample_models.resnet34_antispoof.augment import Channel, change_channel, mask
from sample_models.resnet34_antispoof.data import Draws, front_end, read_clips
from sample_models.resnet34_antispoof.model import ResNet34, resnet34_antispoof
from sample_models.training import Options, save_weights

BATCH = 16
SAVE_EVERY = 100  # steps
CHECK_EVERY = 200  # steps
SMOOTHING = 0.05  # labels are this far from 0 and 1
WEIGHT_DECAY = 0.05
AVERAGE = 0.995  # weights that are kept are a running average of those of the steps


class Batches:
    """Endless seeded batches of augmented features [B, FRAMES, COEFFICIENTS] and labels [B] from the train split."""

    def __init__(self, data: Path, seed: int, channel: Channel | None = None) -> None:
        self.draws = Draws(read_clips(data, "train"), seed)
        self.channel = channel or Channel()

    @torch.no_grad()
    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """The next examples of the stream."""
        waves, labels = self.draws.batch(size)
        features = front_end()(change_channel(waves, self.channel, self.draws.rng))
        return mask(features, self.channel, self.draws.rng), labels


@dataclass
class Run(training.Run):
    """Everything that changes during training."""

    average: ResNet34
    batches: Batches

    def state(self) -> dict[str, Any]:
        random = {"rng": self.batches.draws.rng.bit_generator.state, "torch": torch.get_rng_state()}
        return {**super().state(), "average": self.average.state_dict(), **random}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.average.load_state_dict(state["average"])
        self.batches.draws.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch"])


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy against smoothed labels; both arguments [B]."""
    return F.binary_cross_entropy_with_logits(logits, labels * (1 - 2 * SMOOTHING) + SMOOTHING)


def adamw(model: nn.Module, lr: float) -> torch.optim.AdamW:
    """Weight decay on matrices and kernels alone."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others}], lr, weight_decay=0
    )


def start(options: Options) -> Run:
    """Seed, build the model, fit its feature normalisation, and resume if a matching checkpoint exists."""
    torch.manual_seed(options.seed)
    model = resnet34_antispoof().to(memory_format=torch.channels_last)  # faster on processors
    batches = Batches(options.data, options.seed)
    unmasked = Batches(options.data, options.seed, Channel(masks=0))
    features = torch.cat([unmasked.batch(64)[0] for _ in range(8)]).flatten(0, 1)
    model.mean.copy_(features.mean(0))
    model.std.copy_(features.std(0))
    optimizer = adamw(model, options.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps, pct_start=0.2)
    run = Run(model, optimizer, schedule, copy.deepcopy(model), batches)
    run.resume(options)
    return run


def step(run: Run) -> float:
    """One update of the weights and of their average; returns the loss."""
    features, labels = run.batches.batch(BATCH)
    loss = run.descend(loss_of(run.model(features), labels))
    share = max(1 - AVERAGE, 1 / (run.step / 4 + 1))  # early steps are soon forgotten
    with torch.no_grad():
        for kept, new in zip(run.average.state_dict().values(), run.model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, share)
            else:
                kept.copy_(new)
    return loss


def train(options: Options) -> ResNet34:
    """Run all steps, with a line every 50 and a validation check every CHECK_EVERY."""
    run = start(options)
    run.model.train()
    total, since = 0.0, time.perf_counter()
    while run.step < options.steps:
        total += step(run)
        if run.step % 50 == 0:
            now = time.perf_counter()
            rate, since = (now - since) / 50, now
            print(f"step {run.step}  loss {total / 50:.4f}  {rate:.3f} s/step", flush=True)
            total = 0.0
        if run.step % SAVE_EVERY == 0:
            run.save(options)
        if run.step % CHECK_EVERY == 0:
            result = ev.measure(*ev.clip_scores(run.average, options.data, "val"))
            print(f"step {run.step}  val EER {result['eer']:.2f} %  AUC {result['auc']:.4f}", flush=True)
            since = time.perf_counter()
    return run.average.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options = Options.read(__doc__, 1_500, 2e-3, argv, data="spoof.csv")
    model = train(options)
    save_weights(model.state_dict(), options.output)
    options.checkpoint.unlink(missing_ok=True)
    result = ev.measure(*ev.clip_scores(model, options.data, "val"))
    print(f"val EER {result['eer']:.2f} %  AUC {result['auc']:.4f}")


if __name__ == "__main__":
    main()
