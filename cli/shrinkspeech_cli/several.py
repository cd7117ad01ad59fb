"""A command in several processes (``torchrun``, ``accelerate launch``): the first speaks and writes, all of them work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from shrinkspeech import processes

TOGETHER = ("fit", "sweep")
"""Commands that several processes do together; all others the first does alone."""


def idle(arguments: Sequence[str]) -> bool:
    """Whether this process has nothing to do for a command."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    return processes.rank() > 0 and command not in TOGETHER


@contextmanager
def quiet_others() -> Iterator[None]:
    """Inside, only the first process is heard, and torch not about what is as it should be (weights that a step leaves out)."""
    if processes.size() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if processes.rank() == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def told(text: str) -> str:
    """What this process says of an error: nothing if the first says the same, else with its number."""
    if processes.size() == 1:
        return text
    team = sys.modules.get("shrinkspeech.fitting.processes.team")
    met = team is not None and team.have_met()
    same = team.said_by_first(text) if team and met else processes.rank_here() > 0  # before they meet all find the same
    return "" if same else text if processes.rank() == 0 else f"process {processes.rank()}: {text}"


def part() -> None:
    """Leave the others in good order."""
    if "shrinkspeech.fitting.processes.team" in sys.modules:
        from shrinkspeech.fitting.processes.team import disband

        disband()


def refuse_alone() -> None:
    """
    Raises:
        InputError: ``accelerate launch`` was to start several processes, and has started one.
    """
    from shrinkspeech.errors import InputError

    if processes.started_alone():
        raise InputError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU: give it --multi_gpu, "
            "which starts them there too, or use torchrun --nproc-per-node N"
        )
