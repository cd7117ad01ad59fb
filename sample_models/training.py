"""What the training scripts of the sample models share: command line, one update, checkpoints, weights."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Options:
    """Command line of a training run; ``lr`` is the peak learning rate."""

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
        """What a resumed run must have in common with the one before."""
        return self.steps, self.seed, self.lr

    @classmethod
    def read(
        cls,
        description: str | None,
        steps: int,
        lr: float,
        argv: Sequence[str] | None,
        data: str = "speech.csv and noise.csv",
    ) -> Options:
        """Parse the command line, with these defaults, and set the number of threads."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--data", type=Path, required=True, help=f"data folder with {data}")
        parser.add_argument("--steps", type=int, default=steps)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--lr", type=float, default=lr, help="peak learning rate")
        parser.add_argument("--threads", type=int, default=1)
        parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
        given = parser.parse_args(argv)
        torch.set_num_threads(given.threads)
        return cls(given.data, given.output, given.steps, given.seed, given.lr)


@dataclass
class Run:
    """Everything that changes during training; each model adds what its batches depend on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = field(default=0, kw_only=True)

    def state(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return {**{name: part.state_dict() for name, part in parts.items()}, "step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]

    def descend(self, loss: Tensor, clip: float = 1.0) -> float:
        """One update of the weights and of the learning rate; returns the loss."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return loss.item()

    def resume(self, options: Options) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            SystemExit: it is from other options.
        """
        if options.checkpoint.exists():
            state = torch.load(options.checkpoint, weights_only=True)
            if tuple(state["options"]) != options.key:
                raise SystemExit(f"{options.checkpoint} is from other options: delete it or repeat them")
            self.restore(state)
            print(f"resumed at step {self.step}", flush=True)

    def save(self, options: Options) -> None:
        """Write the checkpoint beside, then rename, so that a cut never leaves half a file."""
        beside = options.checkpoint.with_suffix(".checkpoint.part")
        torch.save({"options": options.key, **self.state()}, beside)
        os.replace(beside, options.checkpoint)


def save_weights(weights: Mapping[str, Tensor], output: Path) -> None:
    """Write safetensors beside ``output``, then rename."""
    beside = output.with_name(output.name + ".part")
    save_file({name: value.contiguous() for name, value in weights.items()}, beside)
    os.replace(beside, output)
