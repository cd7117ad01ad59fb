"""Rows told apart by their speakers: which column, unknown ones to validate on, and batches that hold pairs."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from shrinkspeech.data.loader import in_pairs
from shrinkspeech.errors import InputError
from tests.audio_files import first, opened, same, table, tone, write


def clips(folder: Path, **columns: Any) -> Path:
    """Three clips of each of six speakers, each speaker with a pitch, in a column of the name given."""
    (column,) = columns or ("speaker",)
    rows = []
    for i in range(18):
        name = write(folder / f"{i}.wav", tone(0.25, 200 + 100 * (i % 6), level=0.05 + 0.01 * (i // 6))).name
        rows.append({"path": name, column: f"s{i % 6}", "text": "word"})
    return table(folder / "speakers.csv", rows)


def test_speakers_to_validate_on_are_others(tmp_path: Path) -> None:
    """All rows of a speaker go to one side, and every target is the index of the example's own speaker."""
    source = opened(clips(tmp_path), "speaker", val_fraction=0.34)
    train, val = ({row.label for row in x.clips.checked.rows} for x in (source.train_items, source.val_items))
    assert (len(train), len(val), len(train & val)) == (4, 2, 0)
    assert "4 speakers to train on and 2 to validate on, by the column 'speaker'" in source.notes
    assert source.labels == ()
    index = source.val_items.plan.classes
    assert set(index.values()) == set(range(6))
    assert {index[speaker or ""] for speaker in train} == set(range(4))
    for items, batches in ((source.train_items, first(source, 3)), (source.val_items, list(source.val()))):
        for batch in batches:
            rows = [items.clips.checked.rows[row] for row in batch.rows.tolist()]
            assert batch.target.tolist() == [index[row.label or ""] for row in rows]
            loud = torch.tensor([0.05 + 0.01 * (int(row.path.stem) // 6) for row in rows])
            torch.testing.assert_close(batch.x.abs().amax(1), loud, rtol=1e-2, atol=0)  # the row is the example's own


def test_the_column_of_speakers(tmp_path: Path) -> None:
    """By its name, before labels; else 'label', as in manifests that are made for this; other columns must be named."""
    assert "by the column 'spk_id'" in opened(clips(tmp_path, spk_id=1), "speaker").notes[1]
    assert "by the column 'label'" in opened(clips(tmp_path, label=1), "speaker").notes[1]
    with pytest.raises(
        InputError, match="has no column of speakers: name it 'speaker', or choose one of path, who, text"
    ):
        opened(clips(tmp_path, who=1), "speaker")
    source = opened(tmp_path / "speakers.csv", "speaker", label_column="who", val_fraction=0.34)
    assert "4 speakers to train on and 2 to validate on, by the column 'who'" in source.notes
    with pytest.raises(InputError, match="audio alone has no speakers"):
        opened(tmp_path, "speaker")


def test_known_speakers_are_told(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.wav", "speaker": f"s{i % 6}", "split": "val" if i < 4 else "train"} for i in range(18)]
    clips(tmp_path)
    source = opened(table(tmp_path / "split.csv", rows), "speaker")
    assert "4 of the 4 speakers to validate on are trained on: unknown ones may be harder" in source.notes


def test_pairs() -> None:
    """Every row comes once, rows of a speaker two by two; what is left over comes with another of its speaker."""
    labels = [*"aaaaa", *"bb", "c"]
    keys = [key for batch in islice(in_pairs(labels, 3, 0), 6) for key in batch]
    assert [position for position, _ in keys] == list(range(18))
    for epoch in (keys[:9], keys[9:]):
        rows = [row for _, row in epoch]
        assert Counter(labels[row] for row in rows) == {"a": 6, "b": 2, "c": 1}
        assert set(rows) == set(range(8))
    order = [labels[row] for _, row in keys[:9] if labels[row] != "c"]
    assert all(one == other for one, other in zip(order[::2], order[1::2], strict=True))
    assert keys[:9] != keys[9:]
    assert list(islice(in_pairs(labels, 3, 0), 6)) == list(islice(in_pairs(labels, 3, 0), 6))
    assert list(islice(in_pairs(labels, 3, 1), 6)) != list(islice(in_pairs(labels, 3, 0), 6))


def test_batches_hold_pairs(tmp_path: Path) -> None:
    source = opened(clips(tmp_path), "speaker", val_fraction=0.34)
    batches = first(source, 6)
    assert all(count % 2 == 0 for batch in batches for count in Counter(batch.target.tolist()).values())
    assert same(batches, first(source, 6, workers=2))
