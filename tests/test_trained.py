"""Trained public models: what is typed for each, what is kept of a failure, and the page that is made of the rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.trained.audio import cut, mixed
from benchmarks.trained.commands import Ended, Places, fit_command, inspect_command, run
from benchmarks.trained.inputs import FRONT_ENDS
from benchmarks.trained.metrics import METRICS
from benchmarks.trained.models import Model
from benchmarks.trained.packages import ROOT
from benchmarks.trained.showing import COLUMNS, made, page
from benchmarks.trained.table import MODELS

PLACES = Places(Path("repositories"), Path("audio"), Path("runs"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_is_fed_measured_and_typed(model: Model) -> None:
    assert [other.name for other in MODELS].count(model.name) == 1
    assert model.metric in METRICS
    assert model.inputs in FRONT_ENDS
    assert bool(model.options) == (model.inputs is None) or model.limit
    typed = fit_command(model, PLACES, 7)
    assert typed[typed.index("--steps") + 1] == "7"
    assert ("--recipe" in typed) == (not model.options)
    assert inspect_command(model, PLACES)[:2] == ["inspect", model.factory]
    assert not any("{audio}" in part for part in typed)


def test_a_failure_is_the_sentence_of_the_tool() -> None:
    error = "a warning\nError: there is no data.csv: give another\nstep 3/9\n"
    assert Ended(2, "", error, 1.0).sentence == "there is no data.csv: give another"
    assert Ended(1, "", "Traceback\nValueError: no\n", 1.0).sentence == "ValueError: no"
    assert Ended(-9, "", "step 3/9", 61.2).sentence == "it was stopped after 61 s of processor time"


def test_a_process_tells_what_it_took(tmp_path: Path) -> None:
    model = Model("here", "owner/here@0", ".", "here:Here")
    ended = run([sys.executable, "-c", "print(3)"], Places(tmp_path, tmp_path, tmp_path), model, "check")
    assert (ended.status, ended.out) == (0, "3\n")
    assert 0 < ended.seconds < 60
    assert (tmp_path / "check.log").read_text().startswith(f"$ {sys.executable} -c")


def test_the_page_has_no_place_of_a_machine() -> None:
    for model in MODELS:
        row = made(model, {"name": model.name, "steps": 7, "sentence": "no: too long Caused by: (wt/file.py:3)"})
        assert row is not None
        assert row["sentence"] == "no: too long"
        assert str(ROOT) not in row["fit_command"]
        assert "site-packages" not in row["fit_command"]
        assert row["fit_command"].startswith("shrinkspeech fit ")


def _row(**values: str) -> dict[str, str]:
    return {**dict.fromkeys(COLUMNS, ""), **values}


def test_the_page_counts_what_is_in_its_rows() -> None:
    numbers = {
        "share": "0.9",
        "flops": "1e8",
        "small_flops": "2.5e7",
        "metric": "EER, %",
        "before": "3.0",
        "after": "4.5",
    }
    rows = [
        _row(name="one", fit_command="shrinkspeech fit a:A --task vad", **numbers),
        _row(name="two", fit_command="shrinkspeech fit b:B(c=1) --weights w.pt --recipe recipe.py", **numbers),
        _row(name="three", failed="export", sentence="no form | in ONNX"),
    ]
    text = page(rows, ["four"])
    assert "not measured yet: four." in text
    assert "not measured yet" not in page(rows)
    assert "**2 of 3 models (67 %) go through" in text
    assert "1 of them with options alone, 1 with a recipe" in text
    assert "| one | task vad |  | 90 % | 100M | 25.0 % |" in text
    assert "| two | arguments, weights, recipe |" in text
    assert "| three | export | no form \\| in ONNX | this project's |" in text
    assert "| three |" not in text.split("## Not through")[0]


def test_pieces_of_audio() -> None:
    clip = np.arange(4, dtype=np.float32)
    assert cut(clip, 2, 1.0).tolist() == [2, 3]
    assert cut(clip, 6).tolist() == [0, 1, 2, 3, 0, 0]
    assert cut(clip, 6, repeat=True).tolist() == [0, 1, 2, 3, 0, 1]
    noise = np.array([2.0, -2.0, 2.0, -2.0], dtype=np.float32)
    added = mixed(np.ones(4, np.float32), noise, 20.0) - 1
    assert float(np.mean(added**2)) == pytest.approx(0.01, rel=1e-5)
