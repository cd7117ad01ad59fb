"""One row of a manifest: which columns are understood, and what may stand in them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shrinkspeech.errors import InputError

PATHS = (
    "audio_filepath",
    "path",
    "audio_path",
    "filepath",
    "file_path",
    "file_name",
    "filename",
    "file",
    "audio",
    "wav",
)
LABELS = (
    "label",
    "text_or_label",
    "class",
    "command",
    "keyword",
    "category",
    "target",
    "key",
    "word",
    "intent",
    "text",
)
SPEAKERS = ("speaker", "speaker_id", "spk", "spk_id", "client_id", "label")
STARTS = ("offset", "start")
LENGTHS = ("dur", "duration")
SEGMENTS = ("speech_segments", "segments", "vad_segments", "speech")
CLEAN = ("clean_filepath", "clean_path", "clean", "target_filepath", "target_path")
SPLITS = ("split", "subset", "partition", "set")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclass(frozen=True)
class Row:
    """One clip.

    Attributes:
        path: the audio file.
        line: its line in the manifest, from 1, for messages.
        start: where the clip begins in the file, in s.
        seconds: its length in s; None for all of the file that follows.
        label: what ``label_column`` holds; None where there is no such column or it is empty.
        segments: speech as (start, end) in s from the clip's own start; None where the manifest does not say.
        split: ``train``, ``val`` or ``test``; None where the manifest does not say.
        group: rows of one group must not be parted into train and val: its speaker or file.
        clean: the same clip without noise.
    """

    path: Path
    line: int
    start: float = 0.0
    seconds: float | None = None
    label: str | None = None
    segments: tuple[tuple[float, float], ...] | None = None
    split: str | None = None
    group: str = ""
    clean: Path | None = None


def row_of(path: Path, line: int, record: Mapping[str, Any], label: str | None) -> Row:
    where = f"{path}, line {line}"
    name = _first(record, PATHS)
    if not name:
        raise InputError(f"{where}: there is no path of a file")
    folder = path if path.is_dir() else path.parent
    file = folder / name
    split = _first(record, SPLITS).lower()
    if split and split not in SPLIT_NAMES:
        raise InputError(f"{where}: the split '{split}' is unknown: write train, val or test")
    clean, value = _first(record, CLEAN), "" if label is None else plain(record.get(label))
    return Row(
        path=file,
        line=line,
        start=_number(where, record, STARTS) or 0.0,
        seconds=_number(where, record, LENGTHS),
        label=value or None,
        segments=_segments(where, record),
        split=SPLIT_NAMES.get(split),
        group=_first(record, ("speaker", "speaker_id", "source")) or str(file),
        clean=folder / clean if clean else None,
    )


def _first(record: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((text for text in (plain(record.get(name)) for name in names) if text), "")


def plain(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(where: str, record: Mapping[str, Any], names: Sequence[str]) -> float | None:
    for name in names:
        text = plain(record.get(name))
        if not text:
            continue
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0) or (names is LENGTHS and number == 0):
            raise InputError(f"{where}: {name} is '{text}' where a time in seconds is needed")
        return number
    return None


def _segments(where: str, record: Mapping[str, Any]) -> tuple[tuple[float, float], ...] | None:
    """``0.1-0.5;0.7-1.0`` or ``[[0.1, 0.5], [0.7, 1.0]]``; nothing in the column means no speech."""
    name = next((name for name in SEGMENTS if name in record), None)
    if name is None:
        return None
    value = record[name]
    try:
        if isinstance(value, list):
            pairs = [(float(a), float(b)) for a, b in value]
        else:
            found = [
                re.fullmatch(r"\s*([\d.eE+]+)\s*-\s*([\d.eE+]+)\s*", part)
                for part in plain(value).split(";")
                if part.strip()
            ]
            pairs = [(float(match[1]), float(match[2])) for match in found]  # type: ignore[index]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: cannot read {name} '{value}': write start-end;start-end in seconds") from error
    if any(not 0 <= a <= b for a, b in pairs):
        raise InputError(f"{where}: {name} '{value}' has a segment that ends before it begins")
    return tuple(pairs)


def without_label(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows with a label, and how many have none."""
    kept = [row for row in rows if row.label is not None]
    return kept, len(rows) - len(kept)


def in_split(rows: Sequence[Row], split: str) -> list[Row]:
    """The rows of one split, and those without any, marked as of that split."""
    return [replace(row, split=split) for row in rows if row.split in (split, None)]
