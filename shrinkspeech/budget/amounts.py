"""Amounts as people write them: ``25%``, ``600k``, ``300 kB``, ``2ms``. All of them are read and written here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_POWERS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_LETTERS = {"": 1.0, **_POWERS, **{letter.upper(): size for letter, size in _POWERS.items()}}

COUNTS: Mapping[str, float] = _LETTERS
"""Units of what is counted: ``600``, ``600k``, ``1.2M``."""

BYTES: Mapping[str, float] = {
    **{letter + unit: size for letter, size in _LETTERS.items() for unit in ("", "B")},
    **{f"{letter}iB": 1024.0**power for power, letter in enumerate("KMGT", start=1)},
}
"""Units of memory: ``300kB`` is 300,000 bytes, ``300KiB`` 307,200."""

TIMES: Mapping[str, float] = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
"""Units of time; a plain number is in s. The last two are the micro sign and the Greek letter."""


def read(text: str | float, units: Mapping[str, float]) -> tuple[float, bool] | None:
    """A positive share (``25%``, ``0.25x``) or amount in ``units``, and whether it is a share; None if it is neither."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9]*)", str(text).strip())
    if not found:
        return None
    number, unit = float(found[1]), found[2]
    if unit in ("%", "x"):
        value = number / 100 if unit == "%" else number
    elif unit in units:
        value = number * units[unit]
    else:
        return None
    return (value, unit in ("%", "x")) if 0 < value < math.inf else None


def human(amount: float) -> str:
    """``24.4M``: three significant digits and a unit."""
    amount = _rounded(amount)
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g}{unit}"
    return f"{amount:.3g}"


def bytes_text(amount: float) -> str:
    """``300 kB``."""
    number = human(amount)
    return f"{number[:-1]} {number[-1]}B" if number[-1].isalpha() else f"{number} B"


def time_text(amount: float) -> str:
    """``2 ms``."""
    amount = _rounded(amount)
    power = 0 if amount >= 1 else 3 if amount >= 1e-3 else 6
    return f"{amount * 10**power:.3g} {['s', 'ms', 'µs'][power // 3]}"


def _rounded(amount: float) -> float:
    """To three significant digits, so that 999,700 is a million and not a thousand thousand."""
    return float(f"{amount:.3g}")
