"""How often a fit writes its state: every so many minutes, or every so many steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shrinkspeech.errors import InputError

UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Interval:
    """One of the two; without both never but at the end of a stage.

    Attributes:
        steps: of the optimiser.
        seconds: of time.
    """

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: int | str) -> Interval:
        """``100`` steps, or ``30s``, ``5m``, ``1h``.

        Raises:
            InputError: it is neither, or not above zero.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h)?\s*", str(text))
        number = float(found[1]) if found else 0.0
        if not found or not number or (not found[2] and number != int(number)):
            raise InputError(f"cannot read --checkpoint-every {text}: write a time such as 5m, or steps such as 100")
        return cls(seconds=number * UNITS[found[2]]) if found[2] else cls(steps=int(number))

    def has_passed(self, step: int, seconds: float) -> bool:
        """Whether it is time, at this step and so many seconds after the last one."""
        return (self.steps is not None and step % self.steps == 0) or (
            self.seconds is not None and seconds >= self.seconds
        )
