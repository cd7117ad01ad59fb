"""Train the enhancer from scratch, keeping the weights that do best on val; an interrupted run resumes."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sample_models import training
from sample_models.gru_enhance import evaluate as ev
from sample_models.gru_enhance.data import Batch, Mixtures
from sample_models.gru_enhance.model import gru_enhance
from sample_models.training import Options, save_weights

BATCH = 32
CHECK_EVERY = 250  # steps


def loss_of(enhanced: Tensor, batch: Batch) -> Tensor:
    """Negative SI-SDR in dB, mean over the batch."""
    return -ev.si_sdr(enhanced, batch[1]).mean()


@dataclass
class Run(training.Run):
    """Everything that changes during training; ``best`` is the val gain in dB and the weights that had it."""

    mixtures: Mixtures
    best: tuple[float, dict[str, Tensor]] = (float("-inf"), {})

    @classmethod
    def new(cls, options: Options) -> Run:
        torch.manual_seed(options.seed)
        model = gru_enhance()
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps)
        return cls(model, optimizer, schedule, Mixtures(options.data, "train", options.seed))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "rng": self.mixtures.rng.bit_generator.state, "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.mixtures.rng.bit_generator.state, self.best = state["rng"], state["best"]


def train(options: Options) -> nn.Module:
    """Run all steps, with a line and a checkpoint at every val check; the best model, in eval mode."""
    run = Run.new(options)
    run.resume(options)
    val = Mixtures(options.data, "val", ev.VAL_SEED).fixed(ev.VAL_MIXTURES)
    run.model.train()
    total, since = 0.0, time.perf_counter()
    while run.step < options.steps:
        batch = run.mixtures.batch(BATCH)
        total += run.descend(loss_of(run.model(batch[0]), batch), clip=5.0)
        if run.step % CHECK_EVERY == 0 or run.step == options.steps:
            gain = ev.measure(run.model, val)["si_sdr_improvement"]
            if gain > run.best[0]:
                run.best = gain, copy.deepcopy(run.model.state_dict())
            pace = (time.perf_counter() - since) / CHECK_EVERY
            print(f"step {run.step}  loss {total / CHECK_EVERY:.3f}  val {gain:.3f} dB  {pace:.3f} s/step", flush=True)
            run.save(options)
            total, since = 0.0, time.perf_counter()
    run.model.load_state_dict(run.best[1])
    return run.model.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options = Options.read(__doc__, 4_000, 3e-3, argv)
    model = train(options)
    save_weights(model.state_dict(), options.output)
    options.checkpoint.unlink(missing_ok=True)
    print(ev.report(model, Mixtures(options.data, "test", ev.TEST_SEED).fixed(ev.TEST_MIXTURES)))


if __name__ == "__main__":
    main()
