"""Signals that end a fit: it stops between two steps, when its state is whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal has ended a fit.

    Attributes:
        signal: its number; a shell expects the exit code 128 + this.
    """

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(text or f"stopped by {signal.Signals(number).name}")
        self.signal = number


class Interrupt:
    """What has been asked for. Outside of ``caught`` and of the main thread signals do what they did before.

    Args:
        patient: signals always wait, as others would wait in vain for a process that stops alone. Launchers send them twice,
            and kill after a while.

    Attributes:
        received: the number of a signal that waits for the end of the present step.
    """

    def __init__(self, patient: bool = False) -> None:
        self.received: int | None = None
        self.patient = patient
        self._waits, self._process = False, 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Inside, SIGINT and SIGTERM raise ``Stopped``: at once, or after the step where one is running."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._process = os.getpid()
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Inside, a first signal waits; a second one does not."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that prepares batches: the fit ends it
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if not self.patient and (self.received is not None or not self._waits):
            raise Stopped(number)
        self.received = number
