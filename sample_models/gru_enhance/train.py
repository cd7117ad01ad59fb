"""Train the enhancer from scratch, keeping the weights that do best on val; an interrupted run resumes."""

from __future__ import annotations

import argparse
import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sample_models.gru_enhance import evaluate as ev
from sample_models.gru_enhance.data import Batch, Mixtures
from sample_models.gru_enhance.model import GRUEnhance, gru_enhance

BATCH = 32
CHECK_EVERY = 250  # steps


def loss_of(enhanced: Tensor, batch: Batch) -> Tensor:
    """Negative SI-SDR in dB, mean over the batch."""
    return -ev.si_sdr(enhanced, batch[1]).mean()


@dataclass
class Run:
    """Everything that changes during training; ``best`` is the val gain in dB and the weights that had it."""

    model: GRUEnhance
    optimizer: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.OneCycleLR
    mixtures: Mixtures
    step: int = 0
    best: tuple[float, dict[str, Tensor]] = (float("-inf"), {})

    @classmethod
    def new(cls, data: Path, steps: int, seed: int, rate: float) -> Run:
        torch.manual_seed(seed)
        model = gru_enhance()
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        return cls(model, optimizer, schedule, Mixtures(data, "train", seed))

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        states = {name: part.state_dict() for name, part in parts.items()}
        return {**states, "rng": self.mixtures.rng.bit_generator.state, "step": self.step, "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.mixtures.rng.bit_generator.state = state["rng"]
        self.step, self.best = state["step"], state["best"]

    def descend(self) -> float:
        """One update; returns the loss in dB."""
        batch = self.mixtures.batch(BATCH)
        loss = loss_of(self.model(batch[0]), batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return loss.item()


def train(data: Path, output: Path, steps: int, seed: int, rate: float) -> GRUEnhance:
    """Run all steps, with a line and a checkpoint at every val check; the best model, in eval mode."""
    run, checkpoint, options = Run.new(data, steps, seed, rate), output.with_suffix(".checkpoint"), [steps, seed, rate]
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["options"] != options:
            raise SystemExit(f"{checkpoint} is from other options: delete it or repeat them")
        run.restore(state)
        print(f"resumed at step {run.step}", flush=True)
    val = Mixtures(data, "val", ev.VAL_SEED).fixed(ev.VAL_MIXTURES)
    run.model.train()
    total, since = 0.0, time.perf_counter()
    while run.step < steps:
        total += run.descend()
        if run.step % CHECK_EVERY == 0 or run.step == steps:
            gain = ev.measure(run.model, val)["si_sdr_improvement"]
            if gain > run.best[0]:
                run.best = gain, copy.deepcopy(run.model.state_dict())
            pace = (time.perf_counter() - since) / CHECK_EVERY
            print(f"step {run.step}  loss {total / CHECK_EVERY:.3f}  val {gain:.3f} dB  {pace:.3f} s/step", flush=True)
            beside = checkpoint.with_suffix(".checkpoint.part")
            torch.save({"options": options, **run.state()}, beside)
            os.replace(beside, checkpoint)
            total, since = 0.0, time.perf_counter()
    run.model.load_state_dict(run.best[1])
    return run.model.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    model = train(given.data, given.output, given.steps, given.seed, given.lr)
    beside = given.output.with_name(given.output.name + ".part")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, beside)
    os.replace(beside, given.output)
    given.output.with_suffix(".checkpoint").unlink(missing_ok=True)
    print(ev.report(model, Mixtures(given.data, "test", ev.TEST_SEED).fixed(ev.TEST_MIXTURES)))


if __name__ == "__main__":
    main()
