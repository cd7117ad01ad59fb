"""Starts the processes, compares what they leave, and writes the table."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes.page import write_page
from benchmarks.processes.work import BATCH, MODELS

NUMBERS = (1, 2, 4)
RESULTS = Path("benchmarks/results/processes.csv")
COLUMNS = [
    *("model", "precision", "processes", "went on from", "widths as one", "largest difference", "largest weight"),
    *("gate bytes a step", "tune bytes a step", "items/s"),
    *("date", "commit", "machine"),
]


def launched(count: int, file: Path, *arguments: str, environment: dict[str, str] | None = None) -> int:
    """The exit code of ``torchrun``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", "0"]
    command += [
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "-m",
        "benchmarks.processes.work",
        str(file),
    ]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **(environment or {})}
    return subprocess.run([*command, *arguments], env=quiet, stderr=subprocess.DEVNULL, check=False).returncode


def difference(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Largest difference of a weight; None where the widths differ."""
    if one["widths"] != other["widths"]:
        return None
    return max(float((x.double() - other["tensors"][name].double()).abs().max()) for name, x in one["tensors"].items())


def measured(folder: Path, model: str, double: bool) -> list[dict[str, Any]]:
    """One row for each number of processes, and for each that goes on from what two have left."""
    options = ["--model", model, *(["--double"] if double else [])]
    found: dict[str, dict[str, Any]] = {}
    for count in NUMBERS:
        state = ["--checkpoint", str(folder / "state")] if count == 2 else []
        file = folder / f"{count}.pt"
        if launched(count, file, *options, *state):
            raise SystemExit(f"{count} processes failed on {model}")
        found[str(count)] = torch.load(file)
    for count in (1, 4):
        file, state = folder / f"{count}_again.pt", folder / f"of_two_{count}"
        state.write_bytes((folder / "state.previous").read_bytes())
        if launched(count, file, *options, "--checkpoint", str(state), "--resume"):
            raise SystemExit(f"{count} processes failed to go on, on {model}")
        found[f"{count} after 2"] = torch.load(file)
    return [row(model, double, name, result, found["1"]) for name, result in found.items()]


def row(model: str, double: bool, name: str, result: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    apart = difference(result, one)
    count, _, earlier = name.partition(" after ")
    return {
        "model": model,
        "precision": "float64" if double else "float32",
        "processes": count,
        "went on from": earlier,
        "widths as one": "no" if apart is None else "yes",
        "largest difference": "" if apart is None else f"{apart:.1e}",
        "largest weight": f"{max(float(x.abs().max()) for x in result['tensors'].values()):.2g}",
        "gate bytes a step": f"{result['gate bytes']:.0f}" if "gate bytes" in result else "",
        "tune bytes a step": f"{result['tune bytes']:.0f}",
        "items/s": f"{BATCH / result['tune s']:.0f}",
    }


def death(folder: Path) -> float:
    """Seconds from the death of one of two processes to the end of the other and of ``torchrun``."""
    mark = folder / "death"
    launched(2, folder / "none.pt", "--model", "dscnn_kws", "--dies", "24", environment={"DEATH": str(mark)})
    return time.time() - float(mark.read_text())


def main() -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    facts = {
        "date": date.today().isoformat(),
        "commit": commit.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as folder:
        seconds = death(Path(folder))
    rows: list[dict[str, Any]] = []
    for model, double in product(MODELS, (False, True)):
        with tempfile.TemporaryDirectory() as folder:
            rows += [{**found, **facts} for found in measured(Path(folder), model, double)]
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        write_page(rows, seconds)


if __name__ == "__main__":
    main()
