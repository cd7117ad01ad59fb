"""An end to what takes too long, such as a stranger's file that never comes to its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from shrinkspeech_cli.unexpected import tell


@contextmanager
def time_limit(seconds: float, name: str) -> Iterator[None]:
    """End this process with exit code 2 and a sentence if the block takes longer; 0: no limit.

    Native code cannot be interrupted, so the process ends as it is: nothing may be half written inside the block.
    """
    timer = Timer(
        seconds, _end, [f"{name} takes longer than {seconds:g} s: give more with --timeout, or 0 for no limit"]
    )
    timer.daemon = True
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(text: str) -> None:
    sys.stdout.flush()
    tell(text)
    sys.stderr.flush()
    os._exit(2)
