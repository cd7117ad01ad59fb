"""Checked rows that can be read: from memory or from their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shrinkspeech.data.audio import Floats, read
from shrinkspeech.data.checking import Checked, Fault, check_rows
from shrinkspeech.data.rows import Row
from shrinkspeech.errors import AudioError


@dataclass(frozen=True)
class Clips:
    """Clips of one manifest and one split.

    Attributes:
        name: the manifest, for messages.
        rate: rate of the samples that ``piece`` returns, in Hz.
    """

    name: str
    rate: int
    checked: Checked

    @classmethod
    def open(cls, rows: Sequence[Row], name: str, rate: int, cache_mb: float) -> Clips:
        """Check all files; keep their samples in memory up to ``cache_mb``.

        Raises:
            AudioError: more than one in a hundred is broken.
        """
        return cls(name, rate, check_rows(rows, rate, cache_mb, name))

    def __len__(self) -> int:
        return len(self.checked.rows)

    def samples(self, index: int) -> int:
        """Samples of a clip (of other rates about that many)."""
        return max(1, round(self.checked.seconds[index] * self.rate))

    def piece(self, index: int, start: int = 0, count: int | None = None) -> Floats:
        """Samples from ``start``, at most ``count``: ``[samples]``.

        Raises:
            AudioError: the file cannot be read; a bare reason.
        """
        if self.checked.cache is not None:
            whole = self.checked.cache[index]
            return whole[start : None if count is None else start + count]
        seconds = None if count is None else count / self.rate
        return read(self.checked.rows[index], self.rate, start / self.rate, seconds)

    def fault(self, index: int, error: AudioError) -> tuple[str, Fault]:
        """An error on reading, with the manifest it belongs to."""
        return self.name, Fault(self.checked.rows[index], str(error))
