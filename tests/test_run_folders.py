"""Run folders: fits that go on, what may be written over, who writes, and whether there is room."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import shrinkspeech_cli.runs as runs
import torch
from filelock import FileLock

from shrinkspeech.files import TEMPORARY, replacing
from tests.command import BATCHES, FIT, refused, run, tiny_folder

KILLED = """
import os, pathlib, signal
calls = []
def loss(outputs, batch):
    calls.append(1)
    if os.path.exists("kill") and len(calls) == int(pathlib.Path("kill").read_text()):
        os.kill(os.getpid(), signal.{name})
    return (outputs - batch[1]).square().mean()
"""
WHOLE = ["SHA256SUMS", "model.pt2", "model.safetensors", "origin.json", "report.json", "widths.json"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs."""
    return tiny_folder(tmp_path, monkeypatch)


def content(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def stopped(folder: Path, capsys: pytest.CaptureFixture[str], call: int = 12, arguments: list[str] = FIT) -> str:
    """A fit that SIGTERM ends in one of its calls of the loss; what it said last."""
    (folder / "recipe.py").write_text(BATCHES + KILLED.format(name="SIGTERM"))
    (folder / "kill").write_text(str(call))
    code, _, err = run(arguments, capsys)
    (folder / "kill").unlink()
    assert code == 128 + signal.SIGTERM
    return err.splitlines()[-1]


def test_the_same_command_goes_on_after_a_signal(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    told = stopped(folder, capsys)
    assert "stopped by SIGTERM at step" in told
    assert "run/checkpoint.pt, and the same command goes on from it" in told
    assert content(folder / "run") == ["checkpoint.pt", "checkpoint.pt.previous"]
    code, _, err = run(FIT, capsys)
    assert code == 0, err
    assert "run/checkpoint.pt, at step 4 of 6 (tune)" in caplog.text
    assert content(folder / "run") == WHOLE
    assert run([*FIT[:-1], "whole"], capsys)[0] == 0
    assert weights(folder / "run") == weights(folder / "whole")
    listed = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder / "run", check=False)
    assert listed.returncode == 0


def test_resume_goes_on_or_says_why_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no checkpoint" in refused([*FIT, "--resume"], capsys)
    assert not (folder / "run").exists()
    stopped(folder, capsys)
    other = refused([*FIT, "--resume", "--seed", "1"], capsys)
    assert "checkpoint.pt is of another fit: it differs in seed (1, it was 0): give what it was given, or" in other
    (folder / "recipe.py").write_text(BATCHES + KILLED.format(name="SIGTERM") + "# changed\n")
    assert "it differs in recipe" in refused(FIT, capsys)
    (folder / "recipe.py").write_text(BATCHES + KILLED.format(name="SIGTERM"))
    values = torch.load("weights.pt")
    torch.save({**values, "out.bias": values["out.bias"] + 1}, "weights.pt")
    assert "it differs in weights of the model" in refused(FIT, capsys)
    assert run([*FIT, "--overwrite"], capsys)[0] == 0
    assert "is complete: there is nothing to go on with" in refused([*FIT, "--resume"], capsys)
    assert "holds a run that is complete: give another folder to -o, or --overwrite" in refused(FIT, capsys)


def test_a_sweep_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped in its second budget."""
    options = ["--checkpoint-every", "1"]
    arguments = ["sweep", *FIT[1:6], "--budgets", "50%", "25%", "--steps", "6", *options, "-o", "runs"]
    stopped(folder, capsys, 26, arguments)
    assert content(folder / "runs") == ["50%", "checkpoint.pt", "checkpoint.pt.previous", "sweep.csv"]
    code, _, err = run(arguments, capsys)
    assert code == 0, err
    assert content(folder / "runs") == ["25%", "50%", "SHA256SUMS", "sweep.csv", "sweep.png"]
    assert content(folder / "runs" / "25%") == WHOLE
    assert run([*arguments[:-1], "whole"], capsys)[0] == 0
    for budget in ("50%", "25%"):
        assert weights(folder / "runs" / budget) == weights(folder / "whole" / budget)


def test_overwrite_leaves_what_others_have_put_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an earlier run only what it wrote goes, and that only if nobody has changed it."""
    made = folder / "run"
    assert run(FIT, capsys)[0] == 0
    sums = (made / "SHA256SUMS").read_text()
    for name in ("task.json", "notes.json", "precious"):
        (made / name).write_text("x")
        sums += f"{hashlib.sha256(b'x').hexdigest()}  {name}\n" if name != "precious" else ""
    (made / "notes.json").write_text("changed")
    (made / "SHA256SUMS").write_text("".join(sorted(sums.splitlines(keepends=True), key=lambda line: line[64:])))
    assert run([*FIT, "--overwrite"], capsys)[0] == 0
    assert content(made) == sorted([*WHOLE, "notes.json", "precious"])


def test_files_of_nobody_are_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "model.pt2").write_text("mine")
    assert "run/model.pt2 is of nobody's run" in refused([*FIT, "--overwrite"], capsys)
    assert (folder / "run" / "model.pt2").read_text() == "mine"


def test_a_second_fit_into_one_folder_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    with FileLock(folder / "run" / ".lock"):
        assert "another fit is writing to run: wait until it ends" in refused(FIT, capsys)
    (folder / "run" / ".0123456789abcdef.77.tmp").write_text("left by a fit that was killed")
    assert run(FIT, capsys)[0] == 0
    assert content(folder / "run") == WHOLE


def test_where_a_run_may_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through a link, and under the longest name that there is; not to a device."""
    (folder / "there").symlink_to("elsewhere")
    assert run([*FIT[:-1], "there"], capsys)[0] == 0
    assert content(folder / "elsewhere") == WHOLE
    assert (folder / "there").is_symlink()
    assert "is a device or the like: give a folder" in refused([*FIT[:-1], "/dev/null"], capsys)
    assert run([*FIT[:-1], "r" * 240], capsys)[0] == 0
    assert "File name too long" in refused([*FIT[:-1], "r" * 256], capsys)


def test_where_an_export_may_not_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything is loaded."""
    os.mkfifo(folder / "pipe")
    assert "pipe is a device or the like: give a file name" in refused(["export", "no.pt2", "-o", "pipe"], capsys)
    assert "/dev/null is a device or the like" in refused(["export", "no.pt2", "-o", "/dev/null"], capsys)
    assert ". is a folder: give a file name to -o" in refused(["export", "no.pt2", "-o", "."], capsys)


def test_files_take_the_place_of_files_alone(folder: Path) -> None:
    """Of what a link points to, and under names as long as the system allows."""
    (folder / "link").symlink_to("target")
    for name in ("link", "o" * 255):
        with replacing(folder / name) as temporary:
            temporary.write_text("x")
    assert (folder / "link").is_symlink()
    assert (folder / "target").read_text() == (folder / ("o" * 255)).read_text() == "x"
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    for there, kind in (("/dev/null", "a device"), ("pipe", "no plain file"), ("folder", "a folder")):
        with pytest.raises(OSError, match=f"it is {kind}, give a file"), replacing(there) as temporary:
            temporary.write_text("x")
    assert not Path("/dev/null").is_file()
    assert [path.name for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)] == []


def test_no_room_is_told_before_the_first_step(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = runs.shutil.disk_usage(folder)
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert "run has room for 100B, and the run may need 968B: make room" in refused([*FIT, "--checkpoint", "c"], capsys)
    assert not (folder / "run").exists()
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: usage._replace(free=2000))
    code, _, err = run(FIT, capsys)
    assert code == 0
    assert "warning: run has room for 2kB, and the state of the fit may need 4.84kB" in err


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_files_that_may_not_be_large_enough(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not even the weights: told at once. The weights alone: the fit says so of its state, and at last of the rest."""
    with files_of_at_most(300):
        assert "cannot write 484B to run (File too large): give another folder" in refused(FIT, capsys)
    assert not (folder / "run").exists()
    with files_of_at_most(3000):
        code, _, err = run(FIT, capsys)
    assert code == 2
    assert caplog.text.count("cannot write the checkpoint") == 1
    assert "step 6/6" in err
    assert "run (File too large)" in err.splitlines()[-1]
    assert content(folder / "run") == ["model.safetensors"]
