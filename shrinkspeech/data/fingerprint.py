"""Whether two fits train on the same data: one hash of the rows, of the files behind them, and of the samples in memory."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shrinkspeech.data.clips import Clips
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.rows import Row
from shrinkspeech.data.source import Source

NOT_SEEN = ("workers", "cache_mb", "manifest", "val", "noise", "rir")
"""Options that change no batch, and files, of which the rows tell more."""


def fingerprint(source: Source) -> str:
    """SHA-256 of all clips, noise and rooms: rows, names and sizes of files, and samples where they are in memory."""
    found = hashlib.sha256()
    for items in (source.train_items, source.val_items):
        for clips in (items.clips, items.noise, items.rooms):
            found.update(b"none" if clips is None else _of_clips(clips))
    return found.hexdigest()


def chosen(options: DataOptions) -> dict[str, Any]:
    """The options that batches depend on."""
    return {name: value for name, value in asdict(options).items() if name not in NOT_SEEN}


def _of_clips(clips: Clips) -> bytes:
    found = hashlib.sha256(str(clips.rate).encode())
    for row in clips.checked.rows:
        found.update(repr(_of_row(row)).encode())
    for samples in clips.checked.cache or ():
        found.update(samples.tobytes())
    return found.digest()


def _of_row(row: Row) -> tuple[object, ...]:
    return (
        *(_of_file(path) for path in (row.path, row.clean)),
        *(row.start, row.seconds, row.label, row.segments, row.split),
    )


def _of_file(path: Path | None) -> tuple[object, ...]:
    """Its name and size: a data set that was moved is the same."""
    return () if path is None else (path.parent.name, path.name, path.stat().st_size if path.is_file() else None)
