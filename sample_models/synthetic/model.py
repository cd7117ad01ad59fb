"""The student: three tanh layers side by side on the same inputs, each much wider than its target needs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

INPUTS = 32
OUTPUTS = 32  # of each branch
HIDDEN = 64  # units of each branch
BRANCHES = 3


def branch(hidden: int) -> nn.Sequential:
    """One hidden layer: [B, INPUTS] -> [B, OUTPUTS]."""
    return nn.Sequential(nn.Linear(INPUTS, hidden), nn.Tanh(), nn.Linear(hidden, OUTPUTS))


class Student(nn.Module):
    """[B, INPUTS] -> [B, BRANCHES * OUTPUTS]; a unit costs the same in every branch."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branch(hidden) for _ in range(BRANCHES))

    def forward(self, x: Tensor) -> Tensor:
        """[B, INPUTS] -> [B, BRANCHES * OUTPUTS]."""
        return torch.cat([part(x) for part in self.branches], dim=-1)


def synthetic() -> Student:
    """Return the untrained model."""
    return Student()


def load(weights: str | Path) -> Student:
    """Return the model with weights from a safetensors file, in eval mode."""
    from safetensors.torch import load_file

    model = synthetic()
    model.load_state_dict(load_file(weights))
    return model.eval()
