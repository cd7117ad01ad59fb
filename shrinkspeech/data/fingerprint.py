"""Whether two fits train on the same data: one hash of manifests, rows, and the files behind them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shrinkspeech.data.clips import Clips
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import Source
from shrinkspeech.files import sha256_of

NOT_SEEN = ("workers", "cache_mb", "manifest", "val", "noise", "rir")
"""Options that change no batch, and files, of which the rows tell more."""


def fingerprint(source: Source) -> str:
    """SHA-256 of manifests, and of all clips, noise and rooms: rows, names and sizes of files, what is in memory."""
    found = hashlib.sha256()
    for path in (getattr(source.options, name) for name in ("manifest", "val", "noise", "rir")):
        found.update(sha256_of(path).encode() if path is not None and path.is_file() else b"none")
    for items in (source.train_items, source.val_items):
        for clips in (items.clips, items.noise, items.rooms):
            found.update(b"none" if clips is None else _of_clips(clips))
    return found.hexdigest()


def chosen(options: DataOptions) -> dict[str, Any]:
    """The options that batches depend on."""
    return {name: value for name, value in asdict(options).items() if name not in NOT_SEEN}


def _of_clips(clips: Clips) -> bytes:
    """Files are read again where their samples are in memory: they are few enough."""
    found, content = hashlib.sha256(str(clips.rate).encode()), clips.checked.cache is not None
    for row in clips.checked.rows:
        files = [path for path in (row.path, row.clean) if path is not None]
        facts = (row.start, row.seconds, row.label, row.segments, row.split)
        found.update(repr(([_of_file(path) for path in files], facts)).encode())
    for path in dict.fromkeys(row.path for row in clips.checked.rows if content):
        found.update(sha256_of(path).encode())
    return found.digest()


def _of_file(path: Path) -> tuple[object, ...]:
    """Its name and size: a data set that was moved is the same."""
    return path.parent.name, path.name, path.stat().st_size if path.is_file() else None
