"""Manifests: one clip a row, as CSV, TSV or JSON lines (NeMo's too)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shrinkspeech.data.audio import audio_files
from shrinkspeech.data.rows import LABELS, PATHS, Row, plain, row_of
from shrinkspeech.errors import InputError


@dataclass(frozen=True)
class Manifest:
    """The rows of a file, its columns, and the column that labels were taken from."""

    path: Path
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    label_column: str | None

    def needs_labels(self, kind: str = "label") -> None:
        """Refuse a manifest without labels of a kind: ``label`` or ``speaker``.

        Raises:
            InputError: no column was found.
        """
        if self.path.is_dir():
            raise InputError(
                f"{self.path} is a folder, and audio alone has no {kind}s: give a manifest, a CSV or JSON lines file with "
                "one row for each clip"
            )
        if self.label_column is None:
            raise InputError(
                f"{self.path} has no column of {kind}s: name it '{kind}', or choose one of "
                f"{', '.join(self.columns)} with --label-column"
            )


def read_manifest(
    path: str | Path, label_column: str | None = None, where: Sequence[str] = (), named: Sequence[str] = LABELS
) -> Manifest:
    """Read a manifest; paths in it are relative to its folder. A folder stands for every audio file below it.

    Args:
        label_column: column of the labels; found by its name if not given.
        where: ``column=value`` or ``column!=value``; all of them must hold for a row to stay.
        named: what a column of labels may be called, the likeliest first.

    Raises:
        InputError: the file is missing, is no text, has no rows or no paths, or a value cannot be read.
    """
    path = Path(path)
    records = list(_files(path)) if path.is_dir() else list(_records(path, _text(path)))
    if not records:
        raise InputError(f"the manifest {path} has no rows: it needs one for each clip")
    columns = tuple(dict.fromkeys(key for _, record in records for key in record))
    if not any(name in columns for name in PATHS):
        raise InputError(
            f"{path} has no column of paths: name it 'path' or 'audio_filepath' (there are {', '.join(columns)})"
        )
    if label_column is not None and label_column not in columns:
        raise InputError(f"{path} has no column '{label_column}' for --label-column: there are {', '.join(columns)}")
    label = label_column or next((name for name in named if name in columns), None)
    held = [_condition(text, path, columns) for text in where]
    chosen = [(line, record) for line, record in records if all(_holds(test, record) for test in held)]
    if not chosen:
        raise InputError(f"no row of {path} meets {' and '.join(where)}: look at the columns and values there")
    return Manifest(path, tuple(row_of(path, line, record, label) for line, record in chosen), columns, label)


# ---------------------------------------------------------------------------------------------------------- files


def _files(folder: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """A number and the path of each audio file."""
    found = audio_files(folder)
    if not found:
        raise InputError(f"there is no audio in the folder {folder}: put WAV, FLAC, OGG or MP3 files there")
    for number, file in enumerate(found, start=1):
        yield number, {"path": str(file.relative_to(folder))}


def _text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"there is no manifest {path}: give a CSV or JSON lines file with one row for each clip")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text: save the manifest as UTF-8") from error


def _records(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and columns of each row."""
    start = text.lstrip()[:1]
    if start == "[":
        raise InputError(f"{path} is one JSON list: write JSON lines, one object on each line")
    return _json_lines(path, text) if start == "{" else _table(path, text)


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content, object_pairs_hook=partial(_once, path, line))
        except ValueError as error:
            raise InputError(f"{path}, line {line}: not JSON: write one object on each line ({error})") from error
        except RecursionError:
            raise InputError(f"{path}, line {line}: nested too deeply: write one flat object on each line") from None
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {line}: not a JSON object: write one on each line")
        yield line, record


def _once(path: Path, line: int, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    _no_duplicates(f"{path}, line {line}", names)
    return dict(pairs)


def _no_duplicates(where: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where}: the column '{twice[0]}' comes twice: leave one of them")


def _table(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    head = text.splitlines()[0] if text.strip() else ""
    delimiter = max(",\t;", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names: list[str] = []
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if not names:
                names = [value.strip() for value in values]
                _no_duplicates(str(path), names)
                continue
            if len(values) != len(names):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(values)} values where the header has {len(names)} columns: "
                    "put values with commas in quotes"
                )
            yield reader.line_num, dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


# ----------------------------------------------------------------------------------------------------- conditions


def _condition(text: str, path: Path, columns: Sequence[str]) -> tuple[str, str, bool]:
    """Column, value, and whether they are to be equal."""
    found = re.fullmatch(r"\s*([^=!]+?)\s*(!?=)\s*(.*?)\s*", text)
    if not found:
        raise InputError(f"cannot read --where {text}: write column=value or column!=value")
    if found[1] not in columns:
        raise InputError(f"--where {text}: {path} has no column '{found[1]}': there are {', '.join(columns)}")
    return found[1], found[3], found[2] == "="


def _holds(test: tuple[str, str, bool], record: Mapping[str, Any]) -> bool:
    column, value, equal = test
    return (plain(record.get(column)) == value) is equal
