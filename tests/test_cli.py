"""The command line: the whole chain on a tiny model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from tests.command import FIT, NET, UNKNOWN, run, tiny_folder, write_noise


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs."""
    return tiny_folder(tmp_path, monkeypatch)


def test_chain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """inspect, fit, export and check, one after the other."""
    code, out, _ = run(["inspect", *NET, "--recipe", "recipe.py", "--json"], capsys)
    facts = json.loads(out)
    assert code == 0
    assert [(group["name"], group["size"], group["shrinkable"]) for group in facts["groups"]] == [("inside", 8, True)]
    assert facts["seconds"] == 800 / 16_000
    assert facts["flops_per_second"] == 2 * (8 * 9 + 8 * 5) * 16_000
    assert facts["groups"][0]["alone"] == facts["removable_share"] == 7 / 8

    code, out, err = run(FIT, capsys)
    assert code == 0, err
    assert "step 6/6" in err
    assert "tune" in err
    for part in ("FLOP/s", "50.00%", "power", "inside"):
        assert part in out
    assert json.loads((folder / "run" / "widths.json").read_text())["inside"]["width"] == 4

    code, out, err = run(["export", "run", "-o", "small.onnx"], capsys)
    assert code == 0, err
    assert "agrees with torch within" in out

    limits = [
        "check",
        "small.onnx",
        "--reference",
        "run",
        "--max-params",
        "1k",
        "--max-size",
        "50kB",
        "--max-latency",
        "1s",
    ]
    code, out, err = run([*limits, "--max-flops", "1.8M"], capsys)
    assert code == 0, out + err
    code, out, err = run([*limits, "--max-flops", "1.7M"], capsys)
    assert code == 1
    assert "not met" in out


def test_metadata_of_an_export(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    run(FIT, capsys)
    run(["export", "run", "-o", "small.onnx"], capsys)
    found = {entry.key: entry.value for entry in onnx.load("small.onnx").metadata_props}
    assert found["budget"] == "50%"
    assert json.loads(found["widths"]) == {"inside": 4}
    assert len(found["source_sha256"]) == 64
    assert str(folder) not in json.dumps(found)


def test_fit_on_unlabelled_audio(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file of another rate will do, and what is assumed of it is said."""
    write_noise(folder / "audio" / "a.wav", rate=8_000)
    fit = ["fit", *NET, "--example", "2x800", "--audio", "audio", "--batch-size", 2]
    code, out, err = run([*fit, "--target-flops", "0.5x", "--steps", 4, "-o", "run"], capsys)
    assert code == 0, err
    assert "50.00%" in out
    assert "distance" in out
    assert "note: audio has one file or speaker: what is measured is measured on audio that is trained on" in err
    assert "resampled to 16000 Hz (if the model takes 8000 Hz, give --sample-rate 8000)" in err


def test_audio_alone_is_the_task_distil(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However it is written, the same batches are trained on, and the same run is left."""
    for name in "ab":
        write_noise(folder / "audio" / f"{name}.wav")
    found = []
    for data in (
        ["--audio", "audio"],
        ["--task", "distil", "--audio", "audio"],
        ["--task", "distil", "--data", "audio"],
    ):
        arguments = ["fit", *NET, "--example", "2x800", *data, "--batch-size", 2, "--target-flops", "50%", "--steps", 4]
        code, _, err = run([*arguments, "-o", "run", "--overwrite"], capsys)
        assert code == 0, err
        found.append([(folder / "run" / name).read_bytes() for name in ("model.safetensors", "task.json")])
    assert found[0] == found[1] == found[2]


def test_inspect_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "unknown.py").write_text(UNKNOWN)
    code, out, err = run(["inspect", "unknown.py:Unknown", "--example", "2x800"], capsys)
    assert code == 0, err
    assert "Operators without a rule, which freeze what they touch:" in out
    assert "Not in these FLOP/s, as nobody can count it (a budget of FLOP/s needs --ignore-uncounted):" in out
    assert "shrinkspeech_test.mix.default: model (Unknown), unknown.py:13" in out
    assert "no --weights were given" in out
    _, out, _ = run(["inspect", *NET, "--example", "2x800"], capsys)
    rows = [line.split() for line in out.splitlines()]
    assert ["inside", "8", "inside", "100.0%", "87.5%", "yes"] in rows
    assert ["all", "at", "once", "100.0%", "87.5%"] in rows
    assert "At the smallest widths 448k FLOP/s are left" in out
    _, out, _ = run(["inspect", *NET, "--example", "2x800", "--exclude", "inside*"], capsys)
    assert "no: excluded by --exclude" in out
    _, out, _ = run(["inspect", *NET, "--example", "2x800", "--min-width", 8], capsys)
    assert "no: at its smallest width" in out


HELP = """
import sys
from shrinkspeech_cli.main import main
try:
    main(sys.argv[1:])
finally:
    tops = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    print(*sorted(top for top in tops if not top.startswith("_")), file=sys.stderr)
"""
LIGHT = {"typer", "rich", "pydantic"}
"""What the project depends on and a page of help may load. What those load in turn is theirs, and another one elsewhere."""


@pytest.mark.parametrize("arguments", ["--help", "fit --help", "check --help", "--version"])
def test_help_loads_no_heavy_library(arguments: str) -> None:
    """Help appears at once because of what it does not load; seconds would depend on what else the machine does."""
    result = subprocess.run(
        [sys.executable, "-c", HELP, *arguments.split()], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded, distributions = set(result.stderr.split()), packages_distributions()
    needed = {re.split(r"[^\w-]", line)[0].lower() for line in requires("shrinkspeech") or ()}
    assert {"shrinkspeech_cli", "typer"} <= loaded
    assert "torch" in needed
    found = {name.lower() for top in loaded for name in distributions.get(top, [])}
    assert not found & ((needed | {"numpy", "sympy", "scipy"}) - LIGHT)


def test_help_shows_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--help"], capsys)
    assert code == 0
    chain = ["inspect model", "fit model", "export run", "check model"]
    places = [out.index(f"shrinkspeech {step}") for step in chain]
    listed = [out.index(f"\n│ {step.split()[0]} ") for step in chain]
    assert places + listed == sorted(places + listed)


def test_the_installed_command(folder: Path) -> None:
    command = Path(sys.executable).with_name("shrinkspeech")
    result = subprocess.run([command, "inspect", "nowhere.pt2"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: there is no file nowhere.pt2")
    assert "Traceback" not in result.stderr
