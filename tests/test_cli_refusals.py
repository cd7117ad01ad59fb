"""The command line: one sentence and exit code 2 for each bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shrinkspeech_cli.main import main

from tests.command import BATCHES, FIT, LOSS, NAN, NET, refused, run, tiny_folder, write_noise


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs."""
    return tiny_folder(tmp_path, monkeypatch)


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file nowhere.pt" in refused(["inspect", "nowhere.pt"], capsys)


def test_pickle_without_trust(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Conv1d(1, 4, 3), "model.pt")
    message = refused(["inspect", "model.pt", "--example", "2x1x800"], capsys)
    assert "unpickling runs" in message
    assert "--trust-pickle" in message


def test_state_dict_without_a_factory(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--factory package.module:function" in refused(["inspect", "weights.pt"], capsys)


def test_factory_that_does_not_import(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["inspect", "weights.pt", "--factory", "nowhere:Net"], capsys)
    assert "the factory nowhere:Net does not import" in message


def test_weights_that_do_not_match(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["inspect", "weights.pt", "--factory", "tiny:Wide"], capsys)
    assert "misshapen inside.weight (8x1x9 for 16x1x9)" in message


def test_example_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--example 2x16000" in refused(["inspect", *NET], capsys)


def test_seconds_that_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--seconds" in refused(["inspect", *NET, "--example", "2x100"], capsys)


def test_pattern_that_matches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--only encoder* matches no group" in refused(
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
    assert expected in refused(_fit({"--target-flops": target}), capsys)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BATCHES, "has no loss(outputs, batch)"),
        (LOSS, "has no train_batches()"),
        (BATCHES + NAN, "not finite on any batch that units are scored with"),
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
    code, _, err = run(fit, capsys)
    assert code == 2
    assert expected in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in err


def test_unreadable_audio(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audio").mkdir()
    (folder / "audio" / "a.wav").write_text("no audio")
    assert "audio/a.wav (line 1): not audio that can be read" in refused(_audio_fit(), capsys)


def test_empty_audio_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audio").mkdir()
    assert "there is no audio in the folder audio: put WAV" in refused(_audio_fit(), capsys)


def test_audio_that_is_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "there is no folder audio: give a folder of audio files to --audio"
    assert said in refused(_audio_fit(), capsys)
    (folder / "audio").touch()
    assert said in refused(_audio_fit(), capsys)


def _audio_fit() -> list[str]:
    return ["fit", *NET, "--example", "2x800", "--audio", "audio", "--target-flops", "50%", "-o", "run"]


def test_data_is_needed_and_only_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", *NET, "--target-flops", "50%", "-o", "run"]
    assert "--recipe FILE.py or" in refused(fit, capsys)
    assert "one of them" in refused([*fit, "--recipe", "recipe.py", "--audio", "audio"], capsys)


def test_run_that_is_there_already(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "precious").touch()
    assert "--overwrite" in refused(FIT, capsys)


def test_output_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a file: give a folder" in refused(_fit({"-o": "weights.pt"}), capsys)
    assert "cannot write to" in refused(_fit({"-o": folder / "weights.pt" / "run"}), capsys)
    (folder / "run").mkdir()
    code, _, err = run(["export", folder / "run" / "no.pt2", "-o", folder / "weights.pt" / "small.onnx"], capsys)
    assert code == 2
    assert err.startswith("Error: ")


def test_nothing_to_shrink(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no group of weights.pt can shrink" in refused(_fit({"--exclude": "*"}), capsys)


def test_export_of_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    assert "there is no model.pt2 in it" in refused(["export", "run", "-o", "small.onnx"], capsys)
    assert "there is no file nowhere" in refused(["export", "nowhere", "-o", "small.onnx"], capsys)
    assert "is a folder" in refused(["export", "weights.pt", "-o", "run"], capsys)
    assert "is not a .pt2" in refused(["export", "weights.pt", "-o", "small.onnx"], capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-flops", "many"], "cannot read --max-flops 'many'"),
        (["--max-flops", "25%"], "is a share"),
        (["--max-latency", "soon"], "cannot read --max-latency 'soon'"),
        (["--factory", "tiny:Net"], "belong to --reference"),
        (["--feed", "lengths"], "cannot read --feed 'lengths'"),
        (["--feed", "lengths=long"], "cannot read --feed 'lengths=long'"),
        ([], "there is no file nowhere.onnx"),
    ],
)
def test_bad_checks(options: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(["check", "nowhere.onnx", *options], capsys)


def test_check_of_a_file_that_is_no_onnx(capsys: pytest.CaptureFixture[str]) -> None:
    assert "weights.pt is not a valid ONNX model" in refused(["check", "weights.pt"], capsys)


def test_bad_usage_has_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["shrink"], ["fit", "model.pt2"], ["inspect"], ["inspect", "model.pt2", "--nothing"]):
        code, _, err = run(arguments, capsys)
        assert code == 2
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"--learning-rate": "nan"}, "--learning-rate must be a number above zero"),
        ({"--learning-rate": "inf"}, "--learning-rate must be a number above zero"),
        ({"--learning-rate": 0}, "--learning-rate must be a number above zero"),
        ({"--seed": 2**70}, f"the seed {2**70} is too large"),
    ],
)
def test_numbers_that_are_none(options: dict[str, object], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(_fit(options), capsys)


def test_batch_larger_than_the_machine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_noise(folder / "audio" / "a.wav")
    assert "lower --batch-size or --crop" in refused([*_audio_fit(), "--batch-size", str(10**14)], capsys)


def _unexpected() -> None:
    raise LookupError("nobody\nforesaw this")


def test_what_nobody_foresaw_is_a_sentence_and_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("shrinkspeech.loading.load.load", lambda *_, **__: _unexpected())
    message = refused(["inspect", *NET], capsys)
    assert "LookupError: nobody foresaw this" in message
    assert "shrinkspeech --debug" in message
    (file,) = tmp_path.glob("shrinkspeech-error-*.txt")
    assert str(file) in message
    told = file.read_text()
    assert told.startswith(f"shrinkspeech inspect {' '.join(NET)}\n")
    assert "in _unexpected" in told
    assert f"torch {torch.__version__}" in told
    with pytest.raises(LookupError):
        main(["--debug", "inspect", *NET])


def test_what_nobody_foresaw_on_a_full_disk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("shrinkspeech.loading.load.load", lambda *_, **__: _unexpected())
    assert "please report it; 'shrinkspeech --debug …' shows where" in refused(["inspect", *NET], capsys)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), "cannot go on: No space left on device"),
        (PermissionError(13, "Permission denied", "there.pt"), "cannot use there.pt: Permission denied"),
        (MemoryError(), "more memory than there is"),
    ],
)
def test_what_the_machine_refuses(
    error: Exception, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("shrinkspeech.loading.load.load", refuses)
    assert expected in refused(["inspect", *NET], capsys)
