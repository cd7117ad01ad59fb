"""Processes that end at any moment: killed, told to end, or by an error of their own."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults.rows import Row
from benchmarks.faults.subject import Ended, Subject

KIND = "Processes that end"


class Whole:
    """What nothing disturbs: hash, calls of the loss and time of a fit."""

    def __init__(self, folder: Path, command: str = "fit") -> None:
        subject = Subject(folder)
        self.ended = subject.command(subject.arguments(command=command))
        assert self.ended.code == 0, self.ended.said
        self.hashes = _hashes(subject, command)
        assert all(self.hashes), sorted(path.name for path in subject.run.iterdir())


def _hashes(subject: Subject, command: str) -> list[str]:
    return [subject.hash("run")] if command == "fit" else [subject.hash(f"run/{name}") for name in ("50%", "25%")]


def killed(
    folder: Path, whole: Whole, dice: random.Random, more: Sequence[str] = (), times: int = 1, command: str = "fit"
) -> Row:
    """SIGKILL at a random moment between the start of the process and its usual end, and the same command again."""
    subject = Subject(folder)
    arguments, parts, calls = subject.arguments(*more, command=command), [], 0
    while len(parts) < times:
        ended = subject.command(arguments, kill_after=dice.uniform(0.0, whole.ended.seconds))
        calls += ended.calls
        if ended.code == 0:
            subject, calls, parts = Subject(folder), 0, []
            continue
        parts.append(f"{ended.seconds:.1f} s")
    again = subject.command(arguments)
    same = again.code == 0 and _hashes(subject, command) == whole.hashes
    lost = calls + again.calls - whole.ended.calls
    name = (
        "SIGKILL"
        + (f", {times} times" if times > 1 else "")
        + f" after {', '.join(parts)} of {whole.ended.seconds:.1f} s"
    )
    how = f"{command}: {name}" + (f" ({' '.join(more)})" if more else "")
    return Row(KIND, how, _outcome(again, same), f"{lost} steps", again.seconds, same)


def _outcome(again: Ended, same: bool) -> str:
    if same:
        return "the same command goes on; the weights are those of the fit that nothing disturbs, to the bit"
    return f"the weights differ (exit code {again.code}: {again.last[:100]})"


def told(folder: Path, whole: Whole, call: int, numbers: Sequence[int]) -> Row:
    """Signals in a call of the loss, and the same command again."""
    subject = Subject(folder)
    subject.faults(signals={str(call): list(numbers)})
    ended = subject.command(subject.arguments())
    subject.faults()
    again = subject.command(subject.arguments())
    same = again.code == 0 and _hashes(subject, "fit") == whole.hashes and ended.code == 128 + numbers[0]
    lost = ended.calls + again.calls - whole.ended.calls
    names = " and ".join(signal.Signals(number).name for number in numbers)
    said = f"exit code {ended.code}, '{ended.last.partition(':')[0]}'; "
    return Row(
        KIND, f"{names} in call {call} of the loss", said + _outcome(again, same), f"{lost} steps", again.seconds, same
    )


def raising(folder: Path, whole: Whole, call: int) -> Row:
    """The user's loss fails once."""
    subject = Subject(folder)
    subject.faults(raise_at=call)
    ended = subject.command(subject.arguments())
    subject.faults()
    again = subject.command(subject.arguments())
    same = again.code == 0 and _hashes(subject, "fit") == whole.hashes and ended.code == 2
    lost = ended.calls + again.calls - whole.ended.calls
    return Row(
        KIND,
        f"the loss raises in call {call}",
        f"exit code 2, one sentence; {_outcome(again, same)}",
        f"{lost} steps",
        again.seconds,
        same,
    )


def rows(folder: Path, dice: random.Random, kills: int) -> Iterator[Row]:
    whole = Whole(folder / "whole")
    for _ in range(kills):
        yield killed(folder / "killed", whole, dice)
    for _ in range(max(1, kills // 5)):
        yield killed(folder / "killed", whole, dice, ["--checkpoint-every", "1"])
    yield killed(folder / "killed", whole, dice, ["--checkpoint-every", "1"], times=4)
    sweep = Whole(folder / "sweep", "sweep")
    for _ in range(max(1, kills // 7)):
        yield killed(folder / "killed", sweep, dice, command="sweep")
    for call in (12, 60, 110):
        yield told(folder / "told", whole, call, [signal.SIGTERM])
    for call in (25, 90):
        yield told(folder / "told", whole, call, [signal.SIGINT])
    yield told(folder / "told", whole, 70, [signal.SIGINT, signal.SIGINT])
    yield raising(folder / "raising", whole, 80)
