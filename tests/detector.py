"""A small detector of a tone in noise, and what a fit of it needs."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups
from shrinkspeech.surgery.part import Part

SECONDS = 0.5


class Detector(nn.Module):
    """Features ``[B, 12, T]`` → logits ``[B, T]``: two convolutions, a GRU of two layers, a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv1d(12, 24, 3, padding=1), nn.BatchNorm1d(24), nn.ReLU(), nn.Conv1d(24, 32, 3, padding=1), nn.ReLU()
        )
        self.gru = nn.GRU(32, 24, num_layers=2, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.convs(x).transpose(1, 2))[0]).squeeze(-1)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Noise, with a tone in channel 3 where the target is 1: ([16, 12, 30], [16, 30])."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 12, 30, generator=generator)
    target = (torch.rand(16, 6, generator=generator) < 0.5).float().repeat_interleave(5, 1)
    x[:, 3] += 1.5 * target
    return x, target


def train_batches() -> Iterator[tuple[Tensor, Tensor]]:
    for seed in range(10_000):
        yield batch(seed)


def loss(outputs: Tensor, item: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs, item[1])


def evaluate(model: nn.Module) -> dict[str, float]:
    with torch.no_grad():
        return {"loss": float(loss(model(batch(99_999)[0]), batch(99_999)))}


RECIPE = SimpleNamespace(train_batches=train_batches, loss=loss, evaluate=evaluate)


def trained(batches: int) -> Captured:
    """A detector after some steps of training, captured."""
    torch.manual_seed(0)
    model = Detector()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for seed in range(batches):
        optimiser.zero_grad()
        loss(model(batch(20_000 + seed)[0]), batch(20_000 + seed)).backward()
        optimiser.step()
    return shrinkspeech.capture(model.eval(), (torch.randn(2, 12, 50),))


def job(
    captured: Captured,
    target: str = "25%",
    steps: int = 10,
    settings: Settings | None = None,
    groups: Groups | None = None,
    recipe: Any = RECIPE,
) -> Job:
    """What the stages of a fit share, of a model that is whole."""
    groups = shrinkspeech.label(captured) if groups is None else groups
    goal = Goal.whole(Flops, captured, groups, SECONDS).towards(Flops.parse(target))
    trainer = Trainer(captured, load_recipe(recipe), settings or Settings(), steps, 2e-3, lambda progress: None)
    return Job(trainer, Part.whole(captured, groups), goal, seed=0)
