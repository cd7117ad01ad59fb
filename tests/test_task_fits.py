"""Fits from a manifest alone: from Python, from the command line, and as the documentation has them."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shrinkspeech_cli.main import main

import shrinkspeech
from shrinkspeech.data.options import DataOptions
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.tasks.recipes import task_recipe
from tests.audio_files import RATE, tone, write
from tests.task_cases import net, recipe


def keywords(folder: Path) -> Path:
    """Three words that differ in pitch, with silence around."""
    rng, rows = np.random.default_rng(0), []
    for i in range(60):
        word = ("down", "left", "up")[i % 3]
        samples = tone(
            0.2, {"down": 400, "left": 1_000, "up": 2_200}[word] * rng.uniform(0.9, 1.1), level=rng.uniform(0.05, 0.3)
        )
        write(folder / f"{i}.wav", samples)
        rows.append(
            {"audio_filepath": f"{i}.wav", "duration": 0.2, "command": word, "split": "val" if i % 5 == 4 else "train"}
        )
    file = folder / "words.json"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_classify_end_to_end(tmp_path: Path) -> None:
    """A keyword model learns its words while it shrinks, in a few steps, from the manifest alone."""
    captured = net(3, lambda x: x.mean(2))
    made = recipe("classify", captured, keywords(tmp_path))
    untaught = Settings(distil=0.0)  # the original has learnt nothing
    fitted = shrinkspeech.fit(captured, made, "50%", steps=150, seconds=0.25, learning_rate=3e-2, settings=untaught)
    report = fitted.report
    assert report.flops <= report.target_flops
    assert report.metrics_before["accuracy"] < 60
    assert report.metrics_after["accuracy"] > 80


TINY = """
import torch
from torch import nn

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.out = nn.Conv1d(20, 8, 3, padding=1), nn.Linear(8, 3)
    def forward(self, x):
        return self.out(torch.relu(self.inside(x)).mean(2))

class Either(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.out = nn.Linear(1, 8), nn.Linear(8, 3)
    def forward(self, x):
        return self.out(torch.relu(self.inside(x.mean((1, 2)).unsqueeze(1))))

def words():
    torch.manual_seed(0)
    return Words()

def either():
    torch.manual_seed(0)
    return Either()
"""


def _command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    try:
        main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From a manifest to a run with no Python, on features; the labels lie beside the model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "tinywords.py").write_text(TINY)
    keywords(tmp_path)
    base = [
        "fit",
        "tinywords.py:words",
        "--target-flops",
        "50%",
        "--steps",
        "8",
        "--sample-rate",
        str(RATE),
        "-o",
        "run",
    ]
    task = ["--task", "classify", "--data", "words.json", "--crop", "0.25", "--features", "logmel:20", "--workers", "0"]
    code, err = _command([*base, *task], capsys)
    assert code == 0, err
    assert "note: labels in the order of the outputs: 0 down, 1 left, 2 up" in err
    facts = json.loads((tmp_path / "run" / "task.json").read_text())
    assert (facts["task"], facts["labels"], facts["features"]) == ("classify", ["down", "left", "up"], "logmel:20")
    distil = ["--audio", ".", "--crop", "0.25", "--features", "logmel:20", "--workers", "0"]
    code, err = _command([*base, "--overwrite", *distil], capsys)
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "task.json").read_text())["task"] == "distil"
    ambiguous = ["fit", "tinywords.py:either", *base[2:], "--overwrite", *task]
    code, err = _command(ambiguous, capsys)
    assert code == 2
    assert (
        "tinywords.py:either runs on features of 2x20x26 and of 2x26x20, in more than one layout: say with --example"
        in err
    )
    for wrong, said in (
        (["--task", "asr", "--data", "words.json"], "there is no task 'asr'"),
        (["--task", "vad"], "--task vad needs --data"),
        (
            [*task, "--overwrite", "--features", "logmel:10"],
            "does not run on example inputs of 2x10x26",
        ),
        ([*task[:4], *task[6:], "--overwrite"], "or --crop with the length of a clip in s"),
        (["--data", "words.json", "--recipe", "x.py"], "--data goes with --task"),
        ([*task, "--audio", "."], "--task brings its own data: leave --audio out"),
        ([*task, "--snr", "a"], "cannot read --snr a"),
        ([*task, "--overwrite", "--model-output", "3"], "there is no output 3 for --model-output"),
        ([*task, "--overwrite", "--set", "a=b"], "the task 'classify' has no setting 'a': --set takes nothing"),
        ([*task, "--set", "a"], "cannot read --set a"),
    ):
        code, err = _command([*base, *wrong], capsys)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err


@pytest.mark.skipif(not os.environ.get("SHRINKSPEECH_DATA"), reason="set SHRINKSPEECH_DATA to a folder with speech.csv")
def test_real_speech() -> None:
    """The sample detector on recorded speech, read from the manifest: as good as its own evaluation says, about."""
    from sample_models.crnn_vad.model import load

    folder = Path(os.environ["SHRINKSPEECH_DATA"])
    weights = Path(__file__).parents[1] / "sample_models" / "crnn_vad" / "weights.safetensors"
    captured = shrinkspeech.capture(load(weights), (torch.zeros(2, 16_000),))
    data = DataOptions(
        folder / "speech.csv", noise=folder / "noise.csv", noise_where=("human_voice!=yes",), crop=3.0, val_items=60
    )
    found = task_recipe("vad", captured, data).evaluate(captured.module())
    assert found["eer"] < 20
    assert found["auc"] > 0.9


def test_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The examples of docs/data.md run as they are written, one after the other."""
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    kinds = []
    for kind, block in re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL):
        kinds.append(kind)
        if kind == "python":
            exec(compile(block, "data.md", "exec"), {})
            continue
        for line in block.strip().splitlines():
            code, err = _command(shlex.split(line)[1:], capsys)
            assert code == 0, err
    assert kinds == ["python", "sh", "python", "python"]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["metrics_after"]["accuracy"] > 60
