"""Which label has which index, and what a row says about speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shrinkspeech.data.manifest import Manifest
from shrinkspeech.data.rows import Row, without_label
from shrinkspeech.data.splits import Splits
from shrinkspeech.errors import InputError

SPEECH = frozenset(("speech", "voice", "voiced", "1"))
"""Labels of clips that are speech from their start to their end, where a manifest has no segments."""


def drop_unlabelled(splits: Splits, manifest: Manifest, kind: str = "label") -> Splits:
    """The splits without rows that have no label, and a note on how many those are.

    Raises:
        InputError: there is no column of labels, or nothing is left to train or validate on.
    """
    manifest.needs_labels(kind)
    train, missing_train = without_label(splits.train)
    val, missing_val = without_label(splits.val)
    notes = list(splits.notes)
    if missing_train + missing_val:
        total = len(splits.train) + len(splits.val)
        notes.append(
            f"{missing_train + missing_val} of {total} rows of {manifest.path} have nothing in the column "
            f"'{manifest.label_column}' and are left out"
        )
    for rows, purpose in ((train, "train"), (val, "validate")):
        if not rows:
            raise InputError(
                f"no row to {purpose} on has a label in the column '{manifest.label_column}' of {manifest.path}"
            )
    return replace(splits, train=tuple(train), val=tuple(val), notes=tuple(notes))


def class_indices(splits: Splits, given: Sequence[str] | None, name: str) -> tuple[dict[str, int], list[str]]:
    """Index of every label, in the order given or else sorted, and notes.

    Raises:
        InputError: a row has a label that is not among those given or among those to train on, or there is one only.
    """
    train = {row.label for row in splits.train if row.label is not None}
    known = list(given) if given else sorted(train)
    for row in (*splits.train, *splits.val):
        if row.label in known:
            continue
        if given:
            raise InputError(
                f"{name}, line {row.line}: the label '{row.label}' is not among --labels {','.join(known)}: "
                "name all labels of the model there, or leave these rows out with --where"
            )
        raise InputError(
            f"{name}, line {row.line}: the label '{row.label}' is to be validated on, but no row to train on has it: "
            "name all labels of the model with --labels, or leave these rows out with --where"
        )
    if len(known) < 2:
        raise InputError(f"{name} has the one label '{known[0]}': two or more are needed")
    notes = [f"labels in the order of the outputs: {', '.join(f'{i} {label}' for i, label in enumerate(known))}"]
    unused = [label for label in known if label not in train]
    if unused:
        notes.append(f"no row to train on has the labels {', '.join(unused)}")
    return {label: index for index, label in enumerate(known)}, notes


def speaker_indices(splits: Splits, column: str | None) -> tuple[dict[str, int], list[str]]:
    """Index of every speaker, those to train on first, and notes. Those to validate on may be others."""
    train, val = ({row.label for row in rows if row.label is not None} for rows in (splits.train, splits.val))
    notes = [f"{len(train)} speakers to train on and {len(val)} to validate on, by the column '{column}'"]
    if known := train & val:
        notes.append(
            f"{len(known)} of the {len(val)} speakers to validate on are trained on: unknown ones may be harder"
        )
    return {speaker: index for index, speaker in enumerate([*sorted(train), *sorted(val - train)])}, notes


def speech_rows(splits: Splits, manifest: Manifest) -> Splits:
    """Rows with segments; where there is no such column, a label 'speech' makes one of the whole clip.

    Raises:
        InputError: the manifest says nothing about speech.
    """
    rows = (*splits.train, *splits.val)
    if any(row.segments is not None for row in rows):
        return splits
    labels = {(row.label or "").lower() for row in rows}
    if not labels & SPEECH or not labels - SPEECH:
        raise InputError(
            f"{manifest.path} does not say where speech is: give a column 'speech_segments' with start-end;start-end "
            "in seconds, or a column 'label' that is 'speech' for some clips and something else for the others"
        )
    return replace(splits, train=_marked(splits.train), val=_marked(splits.val))


def _marked(rows: Sequence[Row]) -> tuple[Row, ...]:
    whole = ((0.0, float("inf")),)
    return tuple(replace(row, segments=whole if (row.label or "").lower() in SPEECH else ()) for row in rows)
