"""Manifests, labels, splits and broken files: one clear sentence for each fault."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from shrinkspeech.data.audio import read
from shrinkspeech.data.augment import rms
from shrinkspeech.data.checking import check_rows
from shrinkspeech.data.manifest import read_manifest
from shrinkspeech.data.rows import Row
from shrinkspeech.data.splits import split_rows
from shrinkspeech.errors import AudioError, InputError
from tests.audio_files import RATE, first, opened, table, tone, write

# ----------------------------------------------------------------------------------------------------- manifests


def test_nemo(tmp_path: Path) -> None:
    """NeMo's names are understood as they are, paths are relative to the manifest."""
    lines = [
        {"audio_filepath": "a.wav", "offset": 0.5, "duration": 0.63, "label": "speech", "text": "_"},
        {"audio_filepath": str(tmp_path / "b.wav"), "duration": 1, "label": "noise", "text": "_"},
    ]
    file = tmp_path / "m.json"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    rows = read_manifest(file).rows
    assert [(row.path, row.start, row.seconds, row.label) for row in rows] == [
        (tmp_path / "a.wav", 0.5, 0.63, "speech"),
        (tmp_path / "b.wav", 0.0, 1.0, "noise"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables(tmp_path: Path, delimiter: str) -> None:
    """CSV with any usual delimiter and a byte order mark; ``seconds`` is the file's length and cuts nothing."""
    head = ["path", "text_or_label", "seconds", "start", "dur", "split", "who"]
    body = [["a.wav", " up ", "9", "0.25", "2", "Dev", "x"], ["b.wav", "", "9", "", "", "", "y"]]
    file = tmp_path / "m.csv"
    file.write_text("\n".join(delimiter.join(line) for line in [head, *body]), encoding="utf-8-sig")
    one, two = read_manifest(file).rows
    assert (one.label, one.start, one.seconds, one.split, one.line) == ("up", 0.25, 2.0, "val", 2)
    assert (two.label, two.start, two.seconds, two.split) == (None, 0.0, None, None)
    assert read_manifest(file, label_column="who").rows[0].label == "x"
    assert [row.line for row in read_manifest(file, where=["who!=x"]).rows] == [3]


def test_segments(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    lines = [
        {"path": "a", "speech_segments": "0.1-0.5; 0.7-1"},
        {"path": "b", "speech_segments": [[0, 2.5]]},
        {"path": "c", "speech_segments": ""},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert [row.segments for row in read_manifest(file).rows] == [((0.1, 0.5), (0.7, 1.0)), ((0.0, 2.5),), ()]


FAULTS = {
    "path,label\n": "has no rows",
    "": "has no rows",
    "a,label\nx,y\n": "has no column of paths: name it 'path' or 'audio_filepath' (there are a, label)",
    "path,label,label\nx,y,z\n": "the column 'label' comes twice",
    "path,label\nx,y,z\n": "line 2: 3 values where the header has 2 columns",
    "path,label\n,y\n": "line 2: there is no path of a file",
    "path,start\nx,-1\n": "line 2: start is '-1' where a time in seconds is needed",
    "path,dur\nx,soon\n": "line 2: dur is 'soon' where a time in seconds is needed",
    "path,split\nx,tarin\n": "line 2: the split 'tarin' is unknown: write train, val or test",
    "path,segments\nx,1-0.5\n": "has a segment that ends before it begins",
    "path,segments\nx,all\n": "cannot read segments 'all': write start-end;start-end in seconds",
    '{"path": "x"}\n{"path": \n': "line 2: not JSON",
    '{"path": ' + "[" * 100_000 + "]" * 100_000 + "}": "line 1: nested too deeply",
    '{"path": "x", "path": "y"}\n': "line 1: the column 'path' comes twice",
    '{"path": "x"}\n[1]\n': "line 2: not a JSON object",
    '[{"path": "x"}]\n': "is one JSON list: write JSON lines",
}


@pytest.mark.parametrize("text", FAULTS)
def test_manifest_faults(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.csv"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_manifest(file)
    assert FAULTS[text] in str(raised.value)
    assert str(file) in str(raised.value)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no manifest"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(InputError, match="there is no audio in the folder"):
        read_manifest(tmp_path)
    (tmp_path / "m.csv").write_bytes(b"path,label\nx,a\ny,caf\xe9\n")
    with pytest.raises(InputError, match="line 3: not UTF-8 text: save the manifest as UTF-8"):
        read_manifest(tmp_path / "m.csv")


def test_folder_of_audio(tmp_path: Path) -> None:
    """A folder stands for the audio below it; it has no labels."""
    for name in ("b/two.wav", "a/one.flac"):
        write(tmp_path / name, tone(0.1))
    (tmp_path / "notes.txt").write_text("no audio")
    manifest = read_manifest(tmp_path)
    assert [row.path for row in manifest.rows] == [tmp_path / "a/one.flac", tmp_path / "b/two.wav"]
    with pytest.raises(InputError, match="is a folder, and audio alone has no labels: give a manifest"):
        manifest.needs_labels()


def test_conditions(tmp_path: Path) -> None:
    file = table(tmp_path / "m.csv", [{"path": "a", "corpus": "x"}, {"path": "b", "corpus": "y"}])
    assert [row.path.name for row in read_manifest(file, where=["corpus=y"]).rows] == ["b"]
    for where, said in (("corpus", "cannot read --where"), ("who=x", "has no column 'who'"), ("corpus=z", "no row of")):
        with pytest.raises(InputError, match=said):
            read_manifest(file, where=[where])
    with pytest.raises(InputError, match="no column 'kind' for --label-column: there are path, corpus"):
        read_manifest(file, label_column="kind")


# --------------------------------------------------------------------------------------------------------- labels


def test_label_faults(tmp_path: Path) -> None:
    """A missing column, a label that train lacks, one that the model lacks, and one label alone: a sentence each."""
    rows = [
        {"path": write(tmp_path / f"{i}.wav", tone(0.2)).name, "label": label, "split": split}
        for i, (label, split) in enumerate([("a", "train"), ("b", "train"), ("a", "val")])
    ]
    plain = [{key: value for key, value in row.items() if key != "label"} for row in rows]
    with pytest.raises(
        InputError, match="has no column of labels: name it 'label', or choose one of path, split with --label-column"
    ):
        opened(table(tmp_path / "m.csv", plain))
    with pytest.raises(InputError, match="line 4: the label 'c' is to be validated on, but no row to train on has it"):
        opened(table(tmp_path / "m.csv", [*rows[:2], {**rows[2], "label": "c"}]))
    with pytest.raises(InputError, match="line 3: the label 'b' is not among --labels a,d"):
        opened(table(tmp_path / "m.csv", rows), labels=("a", "d"))
    with pytest.raises(InputError, match="has the one label 'a': two or more are needed"):
        opened(table(tmp_path / "m.csv", [{**row, "label": "a"} for row in rows]))
    with pytest.raises(InputError, match="no row to validate on has a label"):
        opened(table(tmp_path / "m.csv", [*rows[:2], {**rows[2], "label": ""}]))
    source = opened(table(tmp_path / "m.csv", rows), labels=("b", "a", "z"))
    assert source.labels == ("b", "a", "z")
    assert source.counts == (1, 1, 0)
    assert "no row to train on has the labels z" in source.notes
    assert "labels in the order of the outputs: 0 b, 1 a, 2 z" in source.notes


def test_unlabelled_rows_are_counted(tmp_path: Path) -> None:
    rows = [{"path": write(tmp_path / f"{i}.wav", tone(0.2)).name, "label": "ab"[i % 2] if i else ""} for i in range(8)]
    source = opened(table(tmp_path / "m.csv", rows), val_fraction=0.4)
    assert any("1 of 8 rows" in note and "have nothing in the column 'label'" in note for note in source.notes)


def test_speech_faults(tmp_path: Path) -> None:
    rows = [{"path": write(tmp_path / f"{i}.wav", tone(0.2)).name, "label": "ab"[i % 2]} for i in range(4)]
    with pytest.raises(InputError, match="does not say where speech is"):
        opened(table(tmp_path / "m.csv", rows), "speech", val_fraction=0.5)
    rows = [{**row, "label": "speech" if row["label"] == "a" else "background"} for row in rows]
    source = opened(table(tmp_path / "m.csv", rows), "speech", val_fraction=0.5)
    assert {row.segments for row in source.train_items.clips.checked.rows} <= {((0.0, math.inf),), ()}
    with pytest.raises(InputError, match="repeat clips away from their labels"):
        opened(tmp_path / "m.csv", "speech", pad="repeat")
    with pytest.raises(InputError, match="no clean form of every clip"):
        opened(tmp_path / "m.csv", "clean")


def test_splits() -> None:
    """Drawn by group, whatever the order of the rows; another seed draws others."""
    rows = [Row(Path(f"{i}"), i, group=f"speaker{i // 3}") for i in range(60)]
    splits = split_rows(rows, 0.2, 0)
    assert len(splits.val) == 12
    assert not {row.group for row in splits.val} & {row.group for row in splits.train}
    assert {row.path for row in split_rows(rows[::-1], 0.2, 0).val} == {row.path for row in splits.val}
    assert {row.path for row in split_rows(rows, 0.2, 1).val} != {row.path for row in splits.val}
    assert "12 of 60 were drawn with seed 0" in splits.notes[0]
    with pytest.raises(InputError, match="no rows to train on"):
        split_rows([Row(Path("a"), 1, split="val")], 0.1, 0)
    with pytest.raises(InputError, match="one file or speaker to train on and none to validate on"):
        split_rows(rows[:3], 0.1, 0)
    alone = split_rows(rows[:3], 0.1, 0, one_will_do=True)
    assert [row.path for row in alone.val] == [row.path for row in alone.train] == [row.path for row in rows[:3]]
    assert "measured on audio that is trained on" in alone.notes[0]
    assert split_rows(rows, 0.2, 0, one_will_do=True) == splits


# ---------------------------------------------------------------------------------------------------------- audio


def broken(folder: Path) -> dict[str, Row]:
    """A row for everything that can be wrong with a file, by what is said of it."""
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("hello " * 20)
    write(folder / "none.wav", tone(0))
    write(folder / "short.wav", tone(0.5))
    write(folder / "nan.wav", np.array([0.1, np.nan, 0.2] * 100, dtype=np.float32))
    return {
        "there is no such file": Row(folder / "missing.wav", 2),
        "it is a folder": Row(folder, 3),
        "the file is empty": Row(folder / "empty.wav", 4),
        "not audio that can be read": Row(folder / "text.wav", 5),
        "it has no samples": Row(folder / "none.wav", 6),
        "the start 0.5 s lies beyond its end at 0.5 s": Row(folder / "short.wav", 7, start=0.5),
        "no finite numbers": Row(folder / "nan.wav", 8),
    }


def test_broken_files(tmp_path: Path) -> None:
    """One of a hundred is left out and listed; more stop with the first few."""
    good = [Row(write(tmp_path / "good.wav", tone(0.1)), line) for line in range(100, 220)]
    rows = broken(tmp_path)
    for reason, row in rows.items():
        checked = check_rows([*good, row], RATE, 100, "m.csv")
        assert len(checked.rows) == len(good)
        (note,) = checked.notes
        assert note.startswith("1 of 121 clips of m.csv were left out")
        assert f"{row.path} (line {row.line})" in note
        assert reason in note
    with pytest.raises(AudioError) as raised:
        check_rows([*good, *list(rows.values())[:5]], RATE, 100, "m.csv")
    said = str(raised.value)
    assert "5 of 125 clips of m.csv cannot be used, more than 1 %" in said
    assert "missing.wav (line 2): there is no such file" in said
    assert said.endswith("and 2 more")


def test_broken_files_found_on_reading(tmp_path: Path) -> None:
    """Without the audio in memory NaN shows up when a clip is read: the next row takes its place, and it is counted."""
    write(tmp_path / "nan.wav", np.full(3_000, np.nan, dtype=np.float32))
    write(tmp_path / "good.wav", tone(0.3))

    def manifest(count: int) -> Path:
        names = ["good.wav"] * 99 + ["nan.wav"] * count + ["good.wav"] * 30
        rows = [{"path": name, "split": "train", "line": i} for i, name in enumerate(names)]
        return table(tmp_path / "m.csv", [*rows, {"path": "good.wav", "split": "val", "line": 0}])

    source = opened(manifest(1), "none", cache_mb=0)
    batches = first(source, 33)
    assert all(torch.isfinite(batch.x).all() for batch in batches)
    assert {*range(130)} - {row for batch in batches for row in batch.rows.tolist()} == {99}
    assert [fault.row.path.name for fault in source.faults] == ["nan.wav"]
    with pytest.raises(AudioError, match=r"2 of 131 clips of .* cannot be used, more than 1 %"):
        first(opened(manifest(2), "none", cache_mb=0), 33, workers=1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_channels_and_rates(tmp_path: Path, suffix: str) -> None:
    """Two channels of 16 kHz become one of 8 kHz: the length halves, the tone stays."""
    one = tone(1.0, 500, 16_000)
    file = write(tmp_path / f"a.{suffix}", np.stack([one, np.zeros_like(one)], axis=1), 16_000)
    samples = read(Row(file, 1), RATE)
    assert samples.shape == (RATE,)
    assert samples.dtype == np.float32
    middle = samples[1_000:7_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(500, abs=2)
    assert rms(middle) == pytest.approx(0.1 / math.sqrt(2), rel=0.05)
    checked = check_rows([Row(file, 1)], RATE, 0, "m.csv")
    assert checked.notes == (
        "1 of 1 clips of m.csv have 16000 Hz and are resampled to 8000 Hz "
        "(if the model takes 16000 Hz, give --sample-rate 16000)",
        "1 of 1 clips of m.csv have several channels, which are averaged",
    )
    assert checked.cache is None
    both = check_rows([Row(file, 1), Row(write(tmp_path / "b.wav", tone(0.1)), 2)], RATE, 0, "m.csv")
    assert both.notes[0] == "1 of 2 clips of m.csv have 16000 Hz and are resampled to 8000 Hz"


def test_pieces(tmp_path: Path) -> None:
    """A row's start and length cut the file, with or without the audio in memory."""
    samples = tone(1.0, 37)
    row = Row(write(tmp_path / "a.wav", samples), 1, start=0.25, seconds=0.5)
    assert np.array_equal(read(row, RATE), samples[2_000:6_000])
    assert np.array_equal(read(row, RATE, 0.125, 1.0), samples[3_000:6_000])
    for cache in (0, 10):
        source = opened(
            table(
                tmp_path / "m.csv",
                [{"path": "a.wav", "offset": 0.25, "dur": 0.5, "split": s} for s in ("train", "val")],
            ),
            "none",
            500,
            cache_mb=cache,
        )
        assert np.array_equal(source.train_items.clips.piece(0, 1_000, 500), samples[3_000:3_500])
