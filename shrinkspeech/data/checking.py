"""Broken files: found before training where that is cheap, skipped, counted, and too many of them refused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from shrinkspeech.data.audio import Floats, Header, clip_seconds, header, read
from shrinkspeech.data.rows import Row
from shrinkspeech.errors import AudioError

ALLOWED = 0.01
"""Share of the rows that may be broken."""

log = logging.getLogger("shrinkspeech.data")


@dataclass(frozen=True)
class Fault:
    """A row whose audio cannot be used, and why."""

    row: Row
    reason: str

    def __str__(self) -> str:
        return f"{self.row.path} (line {self.row.line}): {self.reason}"


@dataclass
class Faults:
    """Rows that were left out. Adding one too many raises.

    Attributes:
        rows: rows in all.
        name: the manifest, for the message.
    """

    rows: int
    name: str
    found: dict[Row, Fault] = field(default_factory=dict)

    def add(self, faults: Sequence[Fault]) -> None:
        """Count faults; the same row counts once.

        Raises:
            AudioError: more than one in a hundred rows is broken.
        """
        for fault in faults:
            if fault.row not in self.found:
                self.found[fault.row] = fault
                log.warning("left out: %s", fault)
        self.check()

    def check(self) -> None:
        """Raise if there are too many."""
        if len(self.found) <= ALLOWED * self.rows:
            return
        first = "; ".join(str(fault) for fault in list(self.found.values())[:3])
        more = f"; and {len(self.found) - 3} more" if len(self.found) > 3 else ""
        raise AudioError(
            f"{len(self.found)} of {self.rows} clips of {self.name} cannot be used, more than 1 %: "
            f"mend or remove them: {first}{more}"
        )


@dataclass(frozen=True)
class Checked:
    """Rows that can be used.

    Attributes:
        rows: without the broken ones.
        seconds: length of each in s.
        cache: their samples, or None where they are too many to keep.
        notes: what was found, in sentences.
    """

    rows: tuple[Row, ...]
    seconds: tuple[float, ...]
    cache: tuple[Floats, ...] | None
    notes: tuple[str, ...]


def check_rows(rows: Sequence[Row], rate: int, cache_mb: float, name: str) -> Checked:
    """Look at every file's header, and read all of them if they fit into memory.

    Args:
        rate: rate that the samples are to have, in Hz.
        cache_mb: largest size of the samples in memory, in MB.

    Raises:
        AudioError: more than one in a hundred is broken.
    """
    faults, good = Faults(len(rows), name), []
    for row in rows:
        try:
            good.append((row, header(row)))
        except AudioError as error:
            faults.found[row] = Fault(row, str(error))
    faults.check()
    seconds = {row: clip_seconds(row, found) for row, found in good}
    cache: dict[Row, Floats] | None = None
    if sum(seconds.values()) * rate * 4 <= cache_mb * 1e6:
        cache = _read_all([row for row, _ in good], rate, faults)
    kept = [row for row, _ in good if row not in faults.found]
    if not kept:
        raise AudioError(f"no clip of {name} can be used")
    return Checked(
        rows=tuple(kept),
        seconds=tuple(seconds[row] for row in kept),
        cache=None if cache is None else tuple(cache[row] for row in kept),
        notes=(*_rate_notes(good, rate, name), *_fault_notes(faults)),
    )


def _read_all(rows: Sequence[Row], rate: int, faults: Faults) -> dict[Row, Floats]:
    cache = {}
    for row in rows:
        try:
            cache[row] = read(row, rate)
        except AudioError as error:
            faults.found[row] = Fault(row, str(error))
    faults.check()
    return cache


def _rate_notes(good: Sequence[tuple[Row, Header]], rate: int, name: str) -> list[str]:
    rates = Counter(found.rate for _, found in good if found.rate != rate)
    several = sum(found.channels > 1 for _, found in good)
    notes = []
    if rates:
        which = ", ".join(f"{native} Hz" for native in sorted(rates))
        same = len(rates) == 1 and rates.total() == len(good)
        hint = f" (if the model takes {min(rates)} Hz, give --sample-rate {min(rates)})" if same else ""
        notes.append(
            f"{rates.total()} of {len(good)} clips of {name} have {which} and are resampled to {rate} Hz{hint}"
        )
    if several:
        notes.append(f"{several} of {len(good)} clips of {name} have several channels, which are averaged")
    return notes


def _fault_notes(faults: Faults) -> list[str]:
    if not faults.found:
        return []
    listed = "; ".join(map(str, list(faults.found.values())[:10]))
    return [f"{len(faults.found)} of {faults.rows} clips of {faults.name} were left out: {listed}"]
