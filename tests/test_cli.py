"""The command line: the whole chain on a tiny model, and one sentence and exit code 2 for each bad input."""

from __future__ import annotations

import json
import resource
import subprocess
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


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def _run(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = 0
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def _refused(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a bad input gets on stderr, with exit code 2 and nothing else."""
    code, out, err = _run(arguments, capsys)
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in out + err
    return err.removeprefix("Error: ").strip()


# ---------------------------------------------------------------------------------------------------- what works


def test_chain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """inspect, fit, export and check, one after the other."""
    code, out, _ = _run(["inspect", *NET, "--recipe", "recipe.py", "--json"], capsys)
    facts = json.loads(out)
    assert code == 0
    assert [(group["name"], group["size"], group["shrinkable"]) for group in facts["groups"]] == [("inside", 8, True)]
    assert facts["seconds"] == 800 / 16_000
    assert facts["flops_per_second"] == 2 * (8 * 9 + 8 * 5) * 16_000

    code, out, err = _run(FIT, capsys)
    assert code == 0, err
    assert "step 6/6" in err
    assert "tune" in err
    for part in ("FLOP/s", "50.00%", "power", "inside"):
        assert part in out
    assert json.loads((folder / "run" / "widths.json").read_text())["inside"]["width"] == 4

    code, out, err = _run(["export", "run", "-o", "small.onnx"], capsys)
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
    code, out, err = _run([*limits, "--max-flops", "1.8M"], capsys)
    assert code == 0, out + err
    code, out, err = _run([*limits, "--max-flops", "1.7M"], capsys)
    assert code == 1
    assert "not met" in out


def test_metadata_of_an_export(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    _run(FIT, capsys)
    _run(["export", "run", "-o", "small.onnx"], capsys)
    found = {entry.key: entry.value for entry in onnx.load("small.onnx").metadata_props}
    assert found["budget"] == "50%"
    assert json.loads(found["widths"]) == {"inside": 4}
    assert len(found["source_sha256"]) == 64
    assert str(folder) not in json.dumps(found)


def test_fit_on_unlabelled_audio(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _audio(folder / "audio" / "a.wav")
    fit = ["fit", *NET, "--example", "2x800", "--audio", "audio", "--batch-size", 2]
    code, out, err = _run([*fit, "--target-flops", "0.5x", "--steps", 4, "-o", "run"], capsys)
    assert code == 0, err
    assert "50.00%" in out


def test_inspect_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "unknown.py").write_text(UNKNOWN)
    code, out, err = _run(["inspect", "unknown.py:Unknown", "--example", "2x800"], capsys)
    assert code == 0, err
    assert "shrinkspeech_test.mix.default: model (Unknown), unknown.py:13" in out
    assert "no --weights were given" in out
    _, out, _ = _run(["inspect", *NET, "--example", "2x800", "--exclude", "inside*"], capsys)
    assert "no: excluded by --exclude" in out
    _, out, _ = _run(["inspect", *NET, "--example", "2x800", "--min-width", 8], capsys)
    assert "no: at its smallest width" in out


HELP = """
import sys
from shrinkspeech_cli.main import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["--version"]])
def test_help_is_fast_and_does_not_import_torch(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # CPU time: cores may be shared


def test_defaults_are_those_of_the_library() -> None:
    from shrinkspeech_cli.training import DISTIL

    from shrinkspeech.settings import Settings

    assert Settings().distil == DISTIL


def test_the_installed_command(folder: Path) -> None:
    command = Path(sys.executable).with_name("shrinkspeech")
    result = subprocess.run([command, "inspect", "nowhere.pt2"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: there is no file nowhere.pt2")
    assert "Traceback" not in result.stderr


# ------------------------------------------------------------------------------------------------ what is refused


def _audio(path: Path, rate: int = 16_000) -> None:
    path.parent.mkdir(exist_ok=True)
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(4_000), rate)


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file nowhere.pt" in _refused(["inspect", "nowhere.pt"], capsys)


def test_pickle_without_trust(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Conv1d(1, 4, 3), "model.pt")
    message = _refused(["inspect", "model.pt", "--example", "2x1x800"], capsys)
    assert "unpickling runs" in message
    assert "--trust-pickle" in message


def test_state_dict_without_a_factory(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--factory package.module:function" in _refused(["inspect", "weights.pt"], capsys)


def test_factory_that_does_not_import(capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused(["inspect", "weights.pt", "--factory", "nowhere:Net"], capsys)
    assert "the factory nowhere:Net does not import" in message


def test_weights_that_do_not_match(capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused(["inspect", "weights.pt", "--factory", "tiny:Wide"], capsys)
    assert "misshapen inside.weight (8x1x9 for 16x1x9)" in message


def test_example_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--example 2x16000" in _refused(["inspect", *NET], capsys)


def test_seconds_that_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--seconds" in _refused(["inspect", *NET, "--example", "2x100"], capsys)


def test_pattern_that_matches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--only encoder* matches no group" in _refused(
        ["inspect", *NET, "--example", "2x800", "--only", "encoder*"], capsys
    )


def _fit(changes: dict[str, object]) -> list[object]:
    """The usual fit with other values for some options."""
    arguments: list[object] = list(FIT)
    for option, value in changes.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value]
    return arguments


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("200%", "is above the original's 3.58M"),
        ("9M", "is above the original's 3.58M"),
        ("1k", "costs 448k FLOP/s (12.50% of the original)"),
        ("small", "cannot read the target 'small'"),
        ("0", "cannot read the target '0'"),
    ],
)
def test_target_out_of_reach(target: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in _refused(_fit({"--target-flops": target}), capsys)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BATCHES, "has no loss(outputs, batch)"),
        (LOSS, "has no train_batches()"),
        (BATCHES + NAN, "is nan at step 0"),
        ("def train_batches():\n    return []\n" + LOSS, "yields nothing"),
        (
            BATCHES + "def loss(outputs, batch):\n    return batch[7]\n",
            "IndexError: tuple index out of range (recipe.py:",
        ),
        ("import nowhere_at_all\n", "does not import: ModuleNotFoundError"),
    ],
)
def test_bad_recipe(text: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "recipe.py").write_text(text)
    fit = _fit({"--example": "2x800"})
    code, _, err = _run(fit, capsys)
    assert code == 2
    assert expected in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in err


def test_audio_of_the_wrong_rate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _audio(folder / "audio" / "a.wav", rate=8_000)
    assert "a.wav has 8000 Hz where 16000 Hz is needed" in _refused(_audio_fit(), capsys)


def test_unreadable_audio(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audio").mkdir()
    (folder / "audio" / "a.wav").write_text("no audio")
    assert "cannot read the audio file audio/a.wav" in _refused(_audio_fit(), capsys)


def test_empty_audio_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audio").mkdir()
    assert "there is no audio in audio" in _refused(_audio_fit(), capsys)


def _audio_fit() -> list[str]:
    return ["fit", *NET, "--example", "2x800", "--audio", "audio", "--target-flops", "50%", "-o", "run"]


def test_data_is_needed_and_only_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", *NET, "--target-flops", "50%", "-o", "run"]
    assert "--recipe FILE.py or" in _refused(fit, capsys)
    assert "one of them" in _refused([*fit, "--recipe", "recipe.py", "--audio", "audio"], capsys)


def test_run_that_is_there_already(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "precious").touch()
    assert "--overwrite" in _refused(FIT, capsys)


def test_output_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a file: give a folder" in _refused(_fit({"-o": "weights.pt"}), capsys)
    assert "cannot write to" in _refused(_fit({"-o": folder / "weights.pt" / "run"}), capsys)
    (folder / "run").mkdir()
    code, _, err = _run(["export", folder / "run" / "no.pt2", "-o", folder / "weights.pt" / "small.onnx"], capsys)
    assert code == 2
    assert err.startswith("Error: ")


def test_nothing_to_shrink(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no group of weights.pt can shrink" in _refused(_fit({"--exclude": "*"}), capsys)


def test_export_of_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    assert "there is no model.pt2 in it" in _refused(["export", "run", "-o", "small.onnx"], capsys)
    assert "there is no file nowhere" in _refused(["export", "nowhere", "-o", "small.onnx"], capsys)
    assert "is a folder" in _refused(["export", "weights.pt", "-o", "run"], capsys)
    assert "is not a .pt2" in _refused(["export", "weights.pt", "-o", "small.onnx"], capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-flops", "many"], "cannot read --max-flops 'many'"),
        (["--max-flops", "25%"], "is a share"),
        (["--max-latency", "soon"], "cannot read --max-latency 'soon'"),
        (["--factory", "tiny:Net"], "belong to --reference"),
        ([], "there is no file nowhere.onnx"),
    ],
)
def test_bad_checks(options: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in _refused(["check", "nowhere.onnx", *options], capsys)


def test_check_of_a_file_that_is_no_onnx(capsys: pytest.CaptureFixture[str]) -> None:
    assert "weights.pt is not a valid ONNX model" in _refused(["check", "weights.pt"], capsys)


def test_bad_usage_has_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["shrink"], ["fit", "model.pt2"], ["inspect"], ["inspect", "model.pt2", "--nothing"]):
        code, _, err = _run(arguments, capsys)
        assert code == 2
        assert "Traceback" not in err
