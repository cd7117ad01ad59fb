"""A process that tries inputs by their numbers: it may hang or die of one, and a new one goes on with the next."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import resource
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEMORY = 16 << 30
"""Bytes of address space."""
PATIENCE = 60.0
"""Seconds for one input, or for a process to start."""


@dataclass
class Tally:
    """What became of the inputs of a kind.

    Attributes:
        outcomes: how many were ``used``, ``refused``, or one of the escapes: ``unexpected``, ``hung``, ``died``.
        escapes: the first number of each kind of escape.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    escapes: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, outcome: str, where: str) -> None:
        """Count one input."""
        self.outcomes[outcome] += 1
        if outcome not in ("used", "refused"):
            self.escapes.setdefault(f"{outcome}: {where}" if where else outcome, number)

    @property
    def escaped(self) -> int:
        """Inputs that were neither used nor refused in a sentence."""
        return self.outcomes.total() - self.outcomes["used"] - self.outcomes["refused"]


def run(name: str, folder: Path, seed: int, numbers: range) -> Tally:
    """Try the inputs of a kind by number; a process that hangs or dies is replaced."""
    tally, left = Tally(), iter(numbers)
    pending = next(left, None)
    while pending is not None:
        with _process(name, folder, seed) as connection:
            while pending is not None:
                try:
                    connection.send(pending)
                    found = connection.recv() if connection.poll(PATIENCE) else ("hung", "")
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    found = ("died", "")
                tally.add(pending, *found)
                pending = next(left, None)
                if found[0] in ("hung", "died"):
                    break
    return tally


@contextlib.contextmanager
def _process(name: str, folder: Path, seed: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, name, folder, seed))
    process.start()
    there.close()
    try:
        if not here.poll(PATIENCE):
            raise RuntimeError(f"the process for {name} does not start")
        here.recv()
        yield here
    finally:
        process.kill()
        process.join()


def _serve(connection: Any, name: str, folder: Path, seed: int) -> None:
    from benchmarks.fuzz.kinds import KINDS

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.chdir(folder)
    kind = KINDS[name]
    connection.send("ready")
    while True:
        number = connection.recv()
        choose = random.Random(f"{seed} {name} {number}")
        connection.send(outcome(lambda choose=choose: kind(choose)))  # type: ignore[misc]


def outcome(attempt: Callable[[], None]) -> tuple[str, str]:
    """Whether an input was used, refused in a sentence, or neither, and then where."""
    from shrinkspeech.errors import ShrinkSpeechError

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            attempt()
    except (ShrinkSpeechError, MemoryError):
        return "refused", ""
    except OSError as error:
        return ("refused", "") if error.strerror else ("unexpected", _place(error))
    except SystemExit as error:
        return ("used" if error.code in (0, 1, None) else "refused" if error.code == 2 else "unexpected"), ""
    except BaseException as error:  # whatever gets out is what is looked for
        return "unexpected", _place(error)
    return "used", ""


def _place(error: BaseException) -> str:
    """The error's class, and the last line of the tool that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "shrinkspeech" in frame.filename]
    last = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{last}: {str(error).partition(chr(10))[0][:120]}"
