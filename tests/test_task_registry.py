"""The registry of tasks: names without torch, one class for each, and a task of the user's own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from shrinkspeech.data.items import Batch
from shrinkspeech.data.options import parse_settings
from shrinkspeech.errors import InputError
from shrinkspeech.tasks import registry, task, task_names
from shrinkspeech.tasks.base import Task, TaskOptions
from shrinkspeech.tasks.outputs import Observed
from shrinkspeech.tasks.registry import task_class, written
from tests.audio_files import corpus
from tests.task_cases import measured, net, recipe

ROOT = Path(__file__).parents[1]
FIVE = {"classify", "distil", "enhance", "spoof", "vad"}


@pytest.mark.parametrize("name", task_names())
def test_every_name_has_its_class(name: str) -> None:
    assert task_class(name).name == name
    assert f"| `{name}` |" in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_names_are_known_without_torch() -> None:
    code = (
        "import sys; from shrinkspeech.tasks import task_names; print(*task_names()); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert set(done.stdout.split()) >= FIVE
    assert done.stdout.split() == sorted(done.stdout.split())


def test_a_second_task_of_one_name_raises(tmp_path: Path) -> None:
    task_class("vad")
    with pytest.raises(ValueError, match=r"there is a task 'vad' already, in shrinkspeech\.tasks\.vad"):
        task("vad")(type("Mine", (Task,), {}))
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text('\n@task("mine")\nclass Mine(Task):\n    pass\n')
    assert written([tmp_path / "one.py"]) == {"mine": "shrinkspeech.tasks.one"}
    with pytest.raises(ValueError, match=r"a task 'mine' in shrinkspeech\.tasks\.one and in shrinkspeech\.tasks\.two"):
        written(sorted(tmp_path.iterdir()))


def test_a_name_is_taken_before_its_file_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TASKS", {})
    with pytest.raises(ValueError, match=r"there is a task 'spoof' already, in shrinkspeech\.tasks\.spoof"):
        task("spoof")(type("Mine", (Task,), {}))


def test_the_documented_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/tasks.md runs as it is written, and its error is that of a level in dB."""
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "tasks.md", "exec"), {"__name__": "tasks_of_ones_own"})
    made = recipe("level", net(1, lambda x: x.mean(2)), corpus(tmp_path))
    assert "the model's output is read as dB, over 0.25 s" in made.notes
    double = measured(made, lambda x: 10 * torch.log10(4 * x.square().mean(1, keepdim=True) + 1e-9))
    assert double["error_db"] == pytest.approx(6.02, abs=0.01)
    with pytest.raises(InputError, match="the model returns 4x2, where the task 'level' needs 4x1"):
        recipe("level", net(2, lambda x: x.mean(2)), tmp_path / "clips.csv")


def test_a_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its name, and a recipe is made of it."""
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))

    @task("loudness")
    @dataclass
    class Loudness(Task):
        kind = "none"
        settings: ClassVar[dict[str, str]] = {"level": "a level"}

        def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
            return (f"the model returns {observed.text()}, at {self.options.own.get('level', 'any')} level",)

        def loss(self, outputs: Any, batch: Batch) -> Tensor:
            return (outputs.mean((1, 2)) - batch.x.square().mean(1)).square().mean()

        def evaluate(self, model: Any) -> Mapping[str, float]:
            return {"error": float(sum(self.loss(outputs, batch) for outputs, batch in self.results(model)))}

    with pytest.raises(ValueError, match="there is a task 'loudness' already"):
        task("loudness")(Loudness)
    assert "loudness" in task_names()
    made = recipe("loudness", net(1), corpus(tmp_path))
    assert made.task == "loudness"
    assert made.notes[-1] == "the model returns 4x1x26, one value a frame, at any level"
    low = recipe("loudness", net(1), tmp_path / "clips.csv", TaskOptions(own=parse_settings(["level=a=b"])))
    assert low.notes[-1].endswith("at a=b level")
    with pytest.raises(InputError, match=r"the task 'loudness' has no setting 'loud': --set takes level \(a level\)"):
        recipe("loudness", net(1), tmp_path / "clips.csv", TaskOptions(own={"loud": "1"}))
    assert measured(made, lambda x: x.square().mean(1)[:, None, None])["error"] == 0
    with pytest.raises(
        InputError, match="there is no task 'asr': --task is classify, distil, enhance, loudness, spoof"
    ):
        task_class("asr")
