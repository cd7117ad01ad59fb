"""What is being done, said on stderr where it takes its time: a line that goes away on a terminal, a plain one elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

PATIENCE = 2.0
"""Seconds after which the user should know what is going on."""

_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


@contextmanager
def hushed(silent: bool = True) -> Iterator[None]:
    """Inside, nothing is said: for what other programs read."""
    before = _hushed.set(silent or _hushed.get())
    try:
        yield
    finally:
        _hushed.reset(before)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say ``what`` if the block is not done after ``PATIENCE`` seconds."""
    if _hushed.get():
        yield
        return
    with ExitStack() as shown:
        lock, done = threading.Lock(), False

        def show() -> None:
            with lock:
                if not done:
                    _show(what, shown)

        timer = threading.Timer(PATIENCE, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with lock:
                done = True


def _show(what: str, shown: ExitStack) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        shown.enter_context(console.status(f"{escape(what)} …"))
    else:
        print(f"{what} …", file=sys.stderr, flush=True)
