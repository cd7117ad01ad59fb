"""The four commands on one model, each a process of its own with a limit of time, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trained.audio import VARIABLE
from benchmarks.trained.models import Model
from benchmarks.trained.packages import ROOT, command, packages, python

LIMITS = {"inspect": 180, "fit": 600, "export": 240, "check": 120, "measure": 300}
"""s of processor time that each step may take."""

PATIENCE = 4
"""Times its limit of processor time that a step may last."""

BUDGET = "25%"


@dataclass(frozen=True)
class Places:
    """Folders: of repositories, of audio, and of what one model leaves."""

    repositories: Path
    audio: Path
    run: Path


@dataclass(frozen=True)
class Ended:
    """A process that has ended: what it printed, and the processor time that it took in s."""

    status: int
    out: str
    error: str
    seconds: float

    @property
    def sentence(self) -> str:
        """What it said of its failure: the tool's own sentence, or the last line."""
        if self.status == -signal.SIGXCPU or self.status == -signal.SIGKILL:
            return f"it was stopped after {self.seconds:.0f} s of processor time"
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("Error: ")]
        return (told or lines or [f"it ended with status {self.status}"])[-1].removeprefix("Error: ")


def run(arguments: list[str], places: Places, model: Model, step: str) -> Ended:
    """Run a process in the model's folder, on one thread and behind others in the queue for the processor."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")]),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        VARIABLE: str(places.audio),
        "SHRINKSPEECH_TRAINED_MODEL": model.name,
    }
    limit = LIMITS[step]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(
        arguments,
        cwd=model.here(places.repositories, packages()),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)),
    )
    try:
        out, error = process.communicate(timeout=PATIENCE * limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with (places.run / f"{step}.log").open("w", encoding="utf-8") as log:
        log.write(
            f"$ {shlex.join(arguments)}\n{out}\n{error}\n[{process.returncode}, {time.monotonic() - started:.0f} s]\n"
        )
    return Ended(process.returncode, out, error, seconds)


def inspect_command(model: Model, places: Places) -> list[str]:
    """``shrinkspeech inspect …``, without where it is installed."""
    options = model.model_options(model.here(places.repositories, packages()))
    return ["inspect", model.factory, *options, *(["--recipe", str(_recipe())] if model.inputs else [])]


def fit_command(model: Model, places: Places, steps: int) -> list[str]:
    """``shrinkspeech fit …``, without where it is installed."""
    data = [part.format(audio=places.audio) for part in model.options] or ["--recipe", str(_recipe())]
    batch = ["--batch-size", str(model.batch)] if model.options else []
    named = [model.factory, *model.model_options(model.here(places.repositories, packages()))]
    return ["fit", *named, *data, *batch, "--target-flops", BUDGET, "--steps", str(steps)]


def _recipe() -> Path:
    return ROOT / "benchmarks" / "trained" / "recipe.py"


def through(model: Model, places: Places, steps: int) -> dict[str, Any]:
    """What the commands say of a model; where one fails, ``failed`` and ``sentence``, and nothing of those after it."""
    shutil.rmtree(places.run, ignore_errors=True)  # what an older version left is not this run's
    places.run.mkdir(parents=True)
    tool, fitted, file = str(command()), places.run / "run", places.run / "small.onnx"
    row: dict[str, Any] = {"steps": steps}
    ended = run([tool, *inspect_command(model, places), "--json"], places, model, "inspect")
    row["inspect_s"] = round(ended.seconds, 1)
    if ended.status:
        return {**row, "failed": "inspect", "sentence": ended.sentence}
    row.update(_inspected(ended.out))
    ended = run([tool, *fit_command(model, places, steps), "-o", str(fitted)], places, model, "fit")
    row["fit_s"] = round(ended.seconds)
    if ended.status:
        return {**row, "failed": "fit", "sentence": ended.sentence}
    report = json.loads((fitted / "report.json").read_text(encoding="utf-8"))
    row.update(flops=report["original_flops"], small_flops=report["flops"])
    seconds = ["--seconds", f"{report['seconds']!r}"]
    ended = run([tool, "export", str(fitted), "-o", str(file), *seconds], places, model, "export")
    row["export_s"] = round(ended.seconds)
    if ended.status:
        return {**row, "failed": "export", "sentence": ended.sentence}
    row["parity"] = _found(r"agrees with torch within (\S+)", ended.out)
    most = f"{report['flops'] * 1.0001:.0f}"
    ended = run([tool, "check", str(file), "--max-flops", most, "--reference", str(fitted)], places, model, "check")
    if ended.status:
        sentence = ended.sentence if ended.status == 2 else " ".join(ended.out.split())[-300:]
        return {**row, "failed": "check", "sentence": sentence}
    return {**row, **measured(model, places)}


def measured(model: Model, places: Places) -> dict[str, Any]:
    """Metric and times of a model that has gone through; ``unmeasured``, why not, where they cannot be had."""
    seconds = json.loads((places.run / "run" / "report.json").read_text(encoding="utf-8"))["seconds"]
    arguments = [str(python()), "-m", "benchmarks.trained.measuring", model.name, str(places.run), repr(seconds)]
    ended = run(arguments, places, model, "measure")
    return {"unmeasured": ended.sentence} if ended.status else json.loads(ended.out.splitlines()[-1])


def _inspected(out: str) -> dict[str, Any]:
    facts = json.loads(out[out.index("{\n") :])
    return {
        "parameters": facts["parameters"],
        "share": facts["shrinkable_share"],
        "without_rule": sorted({entry["operator"] for entry in facts["without_rule"]}),
        "notes": facts["notes"],
    }


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, " ".join(text.split()))
    return found[1] if found else ""
