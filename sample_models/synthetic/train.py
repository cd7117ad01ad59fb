"""Train the wide student of one seed until its error is far below that of a single missing unit: seconds."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sample_models.synthetic.data import Teacher, error
from sample_models.synthetic.model import Student, synthetic
from sample_models.training import save_weights

BATCH = 256
STEPS = 3_000
RATE = 1e-2


def train(seed: int, steps: int = STEPS, rate: float = RATE) -> Student:
    """The student of the teacher of ``seed``, in eval mode."""
    torch.manual_seed(seed)
    model = synthetic()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    batches = Teacher.of(seed).batches(10_000 + seed, BATCH)
    for step in range(1, steps + 1):
        x, y = next(batches)
        loss = error(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}  error {100 * loss.item():.4f} %", flush=True)
    return model.eval()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="not used: the data are made up")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=RATE, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    model = train(given.seed, given.steps, given.lr)
    save_weights(model.state_dict(), given.output)


if __name__ == "__main__":
    main()
