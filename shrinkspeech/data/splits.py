"""Which rows train, validate and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shrinkspeech.data.rows import Row
from shrinkspeech.errors import InputError


@dataclass(frozen=True)
class Splits:
    """Rows by their use, and what the user should know about how they were parted."""

    train: tuple[Row, ...]
    val: tuple[Row, ...]
    test: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def split_rows(
    rows: Sequence[Row], fraction: float, seed: int, name: str = "the manifest", *, one_will_do: bool = False
) -> Splits:
    """Part rows as their column says; where it names no rows to validate on, a share of the train rows does.

    The share is drawn by a hash of seed and group (speaker or file), so it does not depend on the order of the rows,
    and no speaker or file is on both sides.

    Args:
        one_will_do: where there is one speaker or file alone, validate on what is trained on.

    Raises:
        InputError: nothing is left to train or to validate on.
    """
    parts = {split: [row for row in rows if (row.split or "train") == split] for split in ("train", "val", "test")}
    train, val, notes = parts["train"], parts["val"], []
    if not train:
        raise InputError(f"{name} has no rows to train on: mark some of them 'train' in the column 'split'")
    if not val and one_will_do and len({row.group for row in train}) == 1:
        val = [replace(row, split="val") for row in train]
        notes.append(f"{name} has one file or speaker: what is measured is measured on audio that is trained on")
    elif not val:
        groups = sorted({row.group for row in train}, key=lambda group: _hash(seed, group))
        if len(groups) < 2:
            raise InputError(
                f"{name} has one file or speaker to train on and none to validate on: give another manifest with --val"
            )
        chosen = set(groups[: max(1, round(fraction * len(groups)))])
        val = [replace(row, split="val") for row in train if row.group in chosen]
        train = [row for row in train if row.group not in chosen]
        notes.append(
            f"{name} marks no rows to validate on: {len(val)} of {len(val) + len(train)} were drawn with seed {seed}, "
            "by speaker where there is such a column and else by file"
        )
    return Splits(tuple(train), tuple(val), tuple(parts["test"]), tuple(notes))


def _hash(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()
