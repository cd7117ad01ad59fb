"""A folder with a tiny model and a recipe, and the command run in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from shrinkspeech_cli.main import main

MODEL = '''
import torch
from torch import nn

class Net(nn.Module):
    """[B, samples] -> [B, samples]"""
    def __init__(self, channels=8):
        super().__init__()
        self.inside = nn.Conv1d(1, channels, 9, padding=4)
        self.out = nn.Conv1d(channels, 1, 5, padding=2)
    def forward(self, x):
        return self.out(torch.relu(self.inside(x.unsqueeze(1)))).squeeze(1)

class Wide(Net):
    def __init__(self):
        super().__init__(16)
'''
UNKNOWN = """
import torch
from tiny import Net

@torch.library.custom_op("shrinkspeech_test::mix", mutates_args=())
def mix(x: torch.Tensor) -> torch.Tensor:
    return x.flip(1)

mix.register_fake(torch.empty_like)

class Unknown(Net):
    def forward(self, x):
        return self.out(mix(self.inside(x.unsqueeze(1)))).squeeze(1)
"""
BATCHES = """
import torch
def train_batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(4, 800, generator=generator)
        yield x, 0.5 * x
def example_inputs():
    return torch.zeros(2, 800)
"""
LOSS = "def loss(outputs, batch):\n    return (outputs - batch[1]).square().mean()\n"
NAN = "def loss(outputs, batch):\n    return outputs.mean() * float('nan')\n"
EVALUATE = "def evaluate(model):\n    return {'power': float(model(torch.ones(1, 800)).square().mean())}\n"

NET = ["weights.pt", "--factory", "tiny:Net"]
FIT = ["fit", *NET, "--recipe", "recipe.py", "--target-flops", "50%", "--steps", "6", "-o", "run"]


def tiny_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, its weights and a recipe; the command runs there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "tiny", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "tiny.py").write_text(MODEL)
    (tmp_path / "recipe.py").write_text(BATCHES + LOSS + EVALUATE)
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(compile(MODEL, "tiny.py", "exec"), namespace)
    torch.save(namespace["Net"]().state_dict(), tmp_path / "weights.pt")
    return tmp_path


def run(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = 0
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def refused(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a bad input gets on stderr, with exit code 2 and nothing else."""
    code, out, err = run(arguments, capsys)
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in out + err
    return err.removeprefix("Error: ").strip()


def write_noise(path: Path, rate: int = 16_000) -> None:
    """A quarter of a second of noise at 16 kHz, or what says that it has another rate."""
    path.parent.mkdir(exist_ok=True)
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(4_000), rate)
