"""One piece of one audio file, as mono samples of one rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from shrinkspeech.data.rows import Row
from shrinkspeech.errors import AudioError

Floats = NDArray[np.float32]

SUFFIXES = frozenset(f".{name.lower()}" for name in sf.available_formats()) | {".aif", ".oga", ".opus", ".mp2"}
"""Names of audio files end so."""


def audio_files(folder: Path) -> list[Path]:
    """Every file below a folder whose name ends as those of audio do, in the order of the names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


@dataclass(frozen=True)
class Header:
    """Rate in Hz, frames and channels of a file."""

    rate: int
    frames: int
    channels: int


def header(row: Row) -> Header:
    """What the file of a row says of itself, after a check that the row's clip lies in it.

    Raises:
        AudioError: missing, not audio, empty, or the clip starts beyond its end; the message is a bare reason.
    """
    if not row.path.is_file():
        raise AudioError("there is no such file" if not row.path.is_dir() else "it is a folder")
    if row.path.stat().st_size == 0:
        raise AudioError("the file is empty")
    try:
        info = sf.info(str(row.path))
    except (sf.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"not audio that can be read ({_said(error, row.path)})") from error
    if info.frames <= 0:
        raise AudioError("it has no samples")
    if row.start * info.samplerate >= info.frames:
        raise AudioError(f"the start {row.start:g} s lies beyond its end at {info.frames / info.samplerate:g} s")
    return Header(int(info.samplerate), int(info.frames), int(info.channels))


def read(row: Row, rate: int, skip: float = 0.0, seconds: float | None = None) -> Floats:
    """The clip of a row, or a part of it: mono float32 at ``rate`` Hz, ``[samples]``.

    Channels are averaged. Other rates are resampled by soxr.

    Args:
        skip: seconds of the clip to leave out at its start.
        seconds: how much to read at most.

    Raises:
        AudioError: it cannot be read, is empty, or holds samples that are no finite numbers; a bare reason.
    """
    limits = [length for length in (seconds, None if row.seconds is None else row.seconds - skip) if length is not None]
    try:
        with sf.SoundFile(str(row.path)) as file:
            file.seek(min(round((row.start + skip) * file.samplerate), file.frames))
            count = -1 if not limits else max(0, round(min(limits) * file.samplerate))
            samples = file.read(count, dtype="float32", always_2d=True)
            native = int(file.samplerate)
    except (sf.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"it cannot be read ({_said(error, row.path)})") from error
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not len(mono):
        raise AudioError("it has no samples")
    if not np.isfinite(mono).all():
        raise AudioError("it has samples that are no finite numbers (NaN)")
    if native != rate:
        mono = soxr.resample(mono, native, rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


def clip_seconds(row: Row, found: Header) -> float:
    """How long the clip of a row is, in s."""
    left = found.frames / found.rate - row.start
    return left if row.seconds is None else min(left, row.seconds)


def _said(error: Exception, path: Path) -> str:
    return " ".join(str(error).split()).removeprefix(f"Error opening '{path}': ").rstrip(".")
