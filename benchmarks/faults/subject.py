"""What faults are done to: a folder with a small model and its data, and the command in a process that can be killed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from shrinkspeech_cli.main import main

STEPS = 120
NET = '''
from torch import nn

class Net(nn.Module):
    """[B, samples] -> [B, samples]"""
    def __init__(self):
        super().__init__()
        self.inside, self.norm = nn.Conv1d(1, 16, 9, padding=4), nn.BatchNorm1d(16)
        self.drop, self.out = nn.Dropout(0.1), nn.Conv1d(16, 1, 5, padding=2)
    def forward(self, x):
        return self.out(self.drop(self.norm(self.inside(x.unsqueeze(1))).relu())).squeeze(1)
'''
RECIPE = """
import json, os, pathlib, signal
import torch
from torch.utils.data import DataLoader, TensorDataset

HERE = pathlib.Path(__file__).parent
FAULTS = json.loads((HERE / "faults.json").read_text()) if (HERE / "faults.json").is_file() else {}
DATA = TensorDataset(torch.randn(64, 800, generator=torch.Generator().manual_seed(0)))
drawn, calls = 0, 0

def train_batches():
    global drawn
    for (x,) in DataLoader(DATA, batch_size=8, shuffle=True):
        drawn += 1
        if drawn in FAULTS.get("bad batches", []):
            x = torch.full_like(x, float(FAULTS.get("value", "nan")))
        yield x

def inputs(batch):
    return batch

def loss(outputs, batch):
    global calls
    calls += 1
    with (HERE / "calls").open("ab") as file:
        file.write(b".")
    if calls in FAULTS.get("memory at", []):
        status = pathlib.Path("/proc/self/status").read_text()
        with (HERE / "memory").open("a") as file:
            file.write(status.split("VmRSS:")[1].split()[0] + "\\n")
    for number in FAULTS.get("signals", {}).get(str(calls), []):
        os.kill(os.getpid(), number)
    if calls == FAULTS.get("raise at"):
        raise RuntimeError("the disk with the batches is gone")
    value = (outputs - batch.roll(1, 1)).square().mean()
    if calls in FAULTS.get("bad gradients", []):
        value = value + (0 * outputs.sum()).sqrt()
    return value
"""
LATER = "accelerate onnxscript onnxruntime matplotlib.pyplot shrinkspeech.fitting.fit shrinkspeech.fitting.sweep"
WHOLE = ["SHA256SUMS", "model.pt2", "model.safetensors", "origin.json", "report.json", "widths.json"]


def prepare(folder: Path) -> None:
    """Do once what every process would do: import, also what is imported on the way through a fit."""
    torch.set_num_threads(1)
    for name in LATER.split():
        importlib.import_module(name)
    subject = Subject(folder)
    silent, ended = io.StringIO(), contextlib.suppress(SystemExit)  # as every command ends
    with contextlib.chdir(folder), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), ended:
        main(subject.arguments(steps=4))
    for name in [name for name in sys.modules if name == "net" or name.startswith("shrinkspeech_user_")]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path != str(folder)]


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        code: its exit code, or minus the signal that ended it.
        seconds: time that it took.
        calls: of the loss.
        said: what it printed.
    """

    code: int
    seconds: float
    calls: int
    said: str

    @property
    def last(self) -> str:
        """The last line."""
        return self.said.strip().splitlines()[-1] if self.said.strip() else ""


class Subject:
    """A folder of its own for each fault."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "net.py").write_text(NET)
        (folder / "recipe.py").write_text(RECIPE)
        torch.manual_seed(0)
        space: dict[str, Any] = {}
        exec(compile(NET, "net.py", "exec"), space)
        torch.save(space["Net"]().state_dict(), folder / "weights.pt")

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def arguments(self, *more: str, command: str = "fit", steps: int = STEPS) -> list[str]:
        budgets = ["--target-flops", "50%"] if command == "fit" else ["--budgets", "50%", "25%"]
        model = ["weights.pt", "--factory", "net:Net", "--example", "2x800", "--recipe", "recipe.py"]
        return [command, *model, *budgets, "--steps", str(steps), "-o", "run", *more]

    def faults(self, **found: Any) -> None:
        """What the recipe does wrong from now on."""
        (self.folder / "faults.json").write_text(
            json.dumps({name.replace("_", " "): value for name, value in found.items()})
        )

    def command(self, arguments: Sequence[str], kill_after: float | None = None, largest: int | None = None) -> Ended:
        """Run the command in a process of its own, to its end or until it is killed with SIGKILL."""
        log, calls, started = self.folder / "log", self._calls(), time.perf_counter()
        child = os.fork()
        if not child:
            self._child(arguments, log, largest)
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Ended(code, time.perf_counter() - started, self._calls() - calls, log.read_text(errors="replace"))

    def start(self, arguments: Sequence[str]) -> int:
        """Begin the command in a process of its own; its number."""
        child = os.fork()
        if not child:
            self._child(arguments, self.folder / "log of the first", None)
        return child

    def _child(self, arguments: Sequence[str], log: Path, largest: int | None) -> None:
        code = 70
        try:
            os.chdir(self.folder)
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            main(list(arguments))
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _calls(self) -> int:
        file = self.folder / "calls"
        return file.stat().st_size if file.is_file() else 0

    def hash(self, run: str = "run") -> str:
        """Of the weights that the run holds; empty if it is not complete."""
        folder = self.folder / run
        complete = folder.is_dir() and sorted(path.name for path in folder.iterdir()) == WHOLE
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() if complete else ""


def flipped(data: bytes, dice: random.Random) -> bytes:
    """One bit is another."""
    place, found = dice.randrange(8 * len(data)), bytearray(data)
    found[place // 8] ^= 1 << place % 8
    return bytes(found)
