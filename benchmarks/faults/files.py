"""Files that are damaged, of something else, full or where no file can be."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.faults.killing import Whole
from benchmarks.faults.rows import Row
from benchmarks.faults.subject import Subject, flipped

STATES, OTHERS, PLACES, DISKS = (
    "States that are damaged",
    "Fits that go on with something else",
    "Places to write to",
    "Full disks",
)


def stopped(folder: Path, call: int = 80) -> Subject:
    """A fit that SIGTERM has ended, with two states in its folder."""
    first = folder.with_name("stopped")
    subject = Subject(folder)
    if not first.is_dir():
        subject.faults(signals={str(call): [signal.SIGTERM]})
        assert subject.command(subject.arguments()).code == 143
        subject.faults()
        shutil.copytree(folder, first)
    shutil.copytree(first, folder, dirs_exist_ok=True)
    return subject


def states(folder: Path, whole: Whole, dice: random.Random) -> Iterator[Row]:
    """The newest, or both."""

    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-1000])

    def flip(file: Path) -> None:
        file.write_bytes(flipped(file.read_bytes(), dice))

    def empty(file: Path) -> None:
        file.write_bytes(b"")

    for name, harm in (("cut off", cut), ("one bit flipped", flip), ("emptied", empty), ("deleted", Path.unlink)):
        subject = stopped(folder)
        harm(subject.run / "checkpoint.pt")
        calls = (subject.folder / "calls").stat().st_size
        again = subject.command(subject.arguments())
        same = again.code == 0 and [subject.hash()] == whole.hashes
        noted = "the one before is taken" in again.said or harm is Path.unlink
        happened = (
            "the state before is taken, and that is said; the weights are the same to the bit"
            if harm is not Path.unlink
            else ("the state before is taken; the weights are the same to the bit")
        )
        yield Row(
            STATES,
            f"the newest state {name}",
            happened if same else again.last[:120],
            f"{calls + again.calls - whole.ended.calls} steps",
            again.seconds,
            same and noted,
        )
    subject = stopped(folder)
    for name in ("checkpoint.pt", "checkpoint.pt.previous"):
        flip(subject.run / name)
    again = subject.command(subject.arguments())
    anew = subject.command(subject.arguments("--overwrite"))
    good = again.code == 2 and "not a checkpoint of a fit, or damaged" in again.last
    yield Row(
        STATES,
        "a bit flipped in both states",
        f"exit code 2, '{again.last.partition(' is ')[2]}'",
        "the fit",
        anew.seconds,
        good,
    )


def others(folder: Path, whole: Whole) -> Iterator[Row]:
    def weights(subject: Subject) -> None:
        values = torch.load(subject.folder / "weights.pt")
        torch.save({**values, "out.bias": values["out.bias"] + 1e-3}, subject.folder / "weights.pt")

    def recipe(subject: Subject) -> None:
        file = subject.folder / "recipe.py"
        file.write_text(file.read_text().replace("batch.roll(1, 1)", "batch.roll(2, 1)"))

    def model(subject: Subject) -> None:
        file = subject.folder / "net.py"
        file.write_text(file.read_text().replace(").relu()", ").tanh()"))

    changes: list[tuple[str, Callable[[Subject], None], list[str], str]] = [
        ("other weights of the same shapes", weights, [], "weights of the model"),
        ("another loss in the recipe", recipe, [], "recipe"),
        ("another activation in the model", model, [], "graph of the model"),
        ("--seed 1", lambda subject: None, ["--seed", "1"], "seed (1, it was 0)"),
        ("--steps 121", lambda subject: None, ["--steps", "121"], "steps (121, it was 120)"),
        ("--distil 1", lambda subject: None, ["--distil", "1"], "settings.distil (1.0, it was 16.0)"),
    ]
    for name, change, more, expected in changes:
        subject = stopped(folder)
        change(subject)
        again = subject.command(subject.arguments(*more))
        good = (
            again.code == 2 and f"it differs in {expected}" in again.last and (subject.run / "checkpoint.pt").is_file()
        )
        yield Row(
            OTHERS,
            f"the same command with {name}",
            f"exit code 2: it differs in {expected}" if good else again.last[:120],
            good=good,
        )


def places(folder: Path, whole: Whole) -> Iterator[Row]:
    subject = Subject(folder)
    child = subject.start(subject.arguments())
    while not (subject.folder / "calls").is_file():
        time.sleep(0.05)
    second = subject.command(subject.arguments())
    os.waitpid(child, 0)
    good = second.code == 2 and "another fit is writing to run" in second.last and [subject.hash()] == whole.hashes
    yield Row(
        PLACES,
        "a second fit into the same folder",
        "the second is told, exit code 2; the first ends as if alone" if good else second.last[:120],
        good=good,
    )
    subject = Subject(folder)
    subject.run.mkdir()
    (subject.run / "notes").write_text("mine")
    first, over = subject.command(subject.arguments()), subject.command(subject.arguments("--overwrite"))
    good = first.code == 2 and over.code == 0 and (subject.run / "notes").read_text() == "mine"
    yield Row(
        PLACES,
        "a folder with a file of somebody else",
        "refused; with --overwrite the file stays" if good else first.last[:120],
        good=good,
    )
    subject = Subject(folder)
    subject.run.mkdir()
    (subject.run / "model.pt2").write_text("mine")
    over = subject.command(subject.arguments("--overwrite"))
    good = over.code == 2 and (subject.run / "model.pt2").read_text() == "mine"
    yield Row(
        PLACES,
        "--overwrite on a model.pt2 that no fit wrote",
        "refused; the file stays" if good else over.last[:120],
        good=good,
    )
    for name, output in (("/dev/null", "/dev/null"), ("a file", "weights.pt"), ("a name of 256 characters", "r" * 256)):
        subject = Subject(folder)
        ended = subject.command([*subject.arguments(), "-o", output])
        good = ended.code == 2 and ended.calls == 0 and "Traceback" not in ended.said
        told = ended.last[7:].replace(f"{subject.folder}/", "")[:73].strip()
        yield Row(PLACES, f"-o is {name}", f"exit code 2 before the first step: '{told}…'", good=good)
    subject = Subject(folder)
    (subject.folder / "link").symlink_to("elsewhere")
    ended = subject.command([*subject.arguments(), "-o", "link"])
    good = ended.code == 0 and [subject.hash("elsewhere")] == whole.hashes
    yield Row(
        PLACES, "-o is a link to a folder that is not there", "the folder is made, and the run is in it", good=good
    )
    ended = subject.command([*subject.arguments(), "-o", "r" * 240])
    yield Row(
        PLACES, "-o is a name of 240 characters", "the run is there", good=[subject.hash("r" * 240)] == whole.hashes
    )
    subject = Subject(folder)
    subject.faults(signals={"80": []})
    child = subject.start(subject.arguments("--checkpoint-every", "1"))
    while not (subject.run / "checkpoint.pt").is_file():
        time.sleep(0.05)
    shutil.rmtree(subject.run, ignore_errors=True)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    good = code == 0 and subject.run.joinpath("SHA256SUMS").is_file()
    yield Row(
        PLACES,
        "the run folder is deleted while the fit runs",
        "it is made again, and the run is in it" if good else f"exit code {code}",
        good=good,
    )


def disks(folder: Path, whole: Whole) -> Iterator[Row]:
    subject = Subject(folder)
    ended = subject.command(subject.arguments(), largest=300)
    good = ended.code == 2 and "cannot write" in ended.last and ended.calls == 0
    yield Row(
        DISKS,
        "no file may have more than 300 bytes (RLIMIT_FSIZE)",
        "found before the first step, exit code 2",
        good=good,
    )
    subject = Subject(folder)
    ended = subject.command(subject.arguments(), largest=9_000)
    again = subject.command(subject.arguments("--overwrite"))
    left = [path.name for path in subject.run.iterdir()]
    good = (ended.code, again.code, left) == (2, 2, ["model.safetensors"]) and "cannot write the run" in ended.last
    yield Row(
        DISKS,
        "no file may have more than 9,000 bytes: there is room for the weights, not for the state or the program",
        "a warning at the first state, and the fit goes on; at the end one sentence; the weights are there, and stay there",
        "the reports",
        good=good and "cannot write the checkpoint" in ended.said,
    )
    yield from _small_disk(folder, whole)


def _small_disk(folder: Path, whole: Whole) -> Iterator[Row]:
    """A file system in memory that somebody else fills up while the fit runs, where this machine lets one be made."""
    subject = Subject(folder)
    subject.run.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {subject.run} 2>/dev/null"):
        yield Row(DISKS, "a file system of 1 MB that is full", "not tried: this machine lets none be made")
        return
    try:
        child = subject.start(subject.arguments("--checkpoint-every", "1"))
        while not (subject.run / "checkpoint.pt").is_file():
            time.sleep(0.05)
        with contextlib.suppress(OSError), open(subject.run / "ballast", "wb", buffering=0) as file:
            while file.write(bytes(1024)):
                pass
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = (subject.folder / "log of the first").read_text()
        (subject.run / "ballast").unlink()
        again = subject.command(subject.arguments("--checkpoint-every", "1"))
        good = (
            code == 2 and "cannot write the checkpoint" in said and again.code == 0 and [subject.hash()] == whole.hashes
        )
        lost = (subject.folder / "calls").stat().st_size - whole.ended.calls
        happened = "a warning, and the fit goes on; at the end one sentence; with room again the same command ends it"
        yield Row(
            DISKS,
            "a file system of 1 MB (tmpfs) that somebody fills while the fit runs",
            happened,
            f"{lost} steps",
            again.seconds,
            good,
        )
    finally:
        os.system(f"umount -l {subject.run}")
