"""Examples: what is in them, and that they are the same bits at every run and for any number of workers."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from shrinkspeech.data.augment import fit_length, mix, reverberate, rms
from shrinkspeech.data.frontend import FrontEnd, parse_features
from shrinkspeech.data.items import TRACK_RATE
from shrinkspeech.data.loader import endless, once
from shrinkspeech.data.options import DataOptions, parse_labels, parse_range
from shrinkspeech.data.source import open_source
from shrinkspeech.errors import InputError
from tests.audio_files import LENGTH, RATE, corpus, first, noises, opened, rooms, same, table, tone, write


def test_mix_ratio() -> None:
    rng = np.random.default_rng(0)
    signal, noise = tone(1.0), rng.standard_normal(RATE).astype(np.float32)
    active = np.arange(RATE) < 3_000
    signal[3_000:] = 0
    for snr in (-5.0, 0.0, 20.0):
        scaled = mix(signal, noise, snr, active)
        assert 20 * math.log10(rms(signal[active]) / rms(scaled)) == pytest.approx(snr, abs=1e-3)
    assert not mix(np.zeros_like(noise), noise, 0.0).any()


def test_ratio_of_examples(tmp_path: Path) -> None:
    """What is told of an example is what was mixed: speech over noise, where there is speech."""
    source = opened(corpus(tmp_path), "clean", noise=noises(tmp_path), snr=(3.0, 9.0), gain=(-6.0, 6.0))
    assert any("has no splits: the same noise serves" in note for note in source.notes)
    for batch in first(source):
        for x, clean, length, snr in zip(*batch[:2], batch.lengths.tolist(), batch.snr.tolist(), strict=True):
            spoken = clean != 0 if length < LENGTH else torch.ones(LENGTH, dtype=torch.bool)
            spoken = torch.arange(LENGTH).ge(spoken.nonzero()[0] - 1) & torch.arange(LENGTH).le(
                spoken.nonzero()[-1] + 1
            )
            level = clean.square().sum() / length
            assert 10 * math.log10(level / (x - clean).square().mean()) == pytest.approx(snr, abs=0.05)
            assert 3.0 <= snr <= 9.0
            assert not clean[~spoken].any()


def test_lengths() -> None:
    ramp = np.arange(1, 5, dtype=np.float32)
    assert fit_length(ramp, 7, 2, "silence")[0].tolist() == [0, 0, 1, 2, 3, 4, 0]
    assert fit_length(ramp, 7, 0, "repeat")[0].tolist() == [1, 2, 3, 4, 1, 2, 3]
    samples, begin, real = fit_length(ramp, 2, 1, "silence")
    assert (samples.tolist(), begin, real) == ([2, 3], -1, 2)


def test_room_keeps_time_and_level() -> None:
    """The direct sound stays where it was, however late it comes in the response."""
    click = np.zeros(500, dtype=np.float32)
    click[100] = 1.0
    response = np.array([0, 0, 0.1, 1.0, 0.5], dtype=np.float32)
    wet = reverberate(click, response)
    assert np.argmax(np.abs(wet)) == 100
    assert wet[101] / wet[100] == pytest.approx(0.5, rel=1e-4)
    assert rms(wet) == pytest.approx(rms(click), rel=1e-5)


def test_speech_tracks(tmp_path: Path) -> None:
    """Where the track says speech the samples are the clips' speech, and nowhere else."""
    for i in range(6):
        loud, soft = tone(0.06 + 0.01 * i, level=0.5), tone(0.05, level=0.01)
        write(tmp_path / f"{i}.wav", np.concatenate([loud, soft]))
    rows = [
        {"path": f"{i}.wav", "segments": f"0-{0.06 + 0.01 * i:.2f}", "split": "val" if i > 3 else "train"}
        for i in range(6)
    ]
    source = opened(table(tmp_path / "m.csv", rows), "speech", 8_000)
    for batch in first(source, 2):
        assert batch.target.shape == (4, TRACK_RATE)
        loud = batch.x.unfold(1, 8, 8).abs().amax(2) > 0.02  # one value each 1 ms
        assert (loud != (batch.target > 0.5)).float().mean() < 0.03
        assert 0.1 < batch.target.mean() < 0.9


def test_order() -> None:
    """Every row once before any comes again, in another order each time."""
    stream = endless([1] * 10, 4, 0)
    keys = [key for _ in range(5) for key in next(stream)]
    assert [position for position, _ in keys] == list(range(20))
    assert sorted(row for _, row in keys[:10]) == sorted(row for _, row in keys[10:]) == list(range(10))
    assert [row for _, row in keys[:10]] != [row for _, row in keys[10:]]
    assert [len(batch) for batch in once(10, 4, 100)] == [4, 4, 2]
    assert [len(batch) for batch in once(10, 4, 100, whole=True)] == [4, 4]
    assert [row for batch in once(100, 4, 5) for _, row in batch] == [0, 25, 50, 74, 99]


def test_every_second_of_unlabelled_audio_is_as_likely(tmp_path: Path) -> None:
    """A clip comes as often as it holds an example; with labels every clip comes once."""
    for name, seconds in (("a", 1.0), ("b", 0.1), ("c", 0.25)):
        write(tmp_path / f"{name}.wav", tone(seconds))
    rows = [{"path": f"{name}.wav", "label": name, "split": split} for name in "abc" for split in ("train", "val")]
    manifest = table(tmp_path / "m.csv", rows)
    assert opened(manifest, "none").train_items.visits() == [4, 1, 1]
    assert opened(manifest, "class").train_items.visits() == [1, 1, 1]
    drawn = [row for keys, _ in zip(endless([4, 1, 1], 3, 0), range(4), strict=False) for _, row in keys]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("kind", ["class", "speech", "clean"])
def test_same_batches(tmp_path: Path, kind: str) -> None:
    """Two runs and 0 against 2 workers give the same bits; another seed does not."""
    options = {"noise": noises(tmp_path), "rir": rooms(tmp_path), "gain": (-6.0, 6.0)}
    source = opened(corpus(tmp_path), kind, **options)
    once_ = first(source, 6)
    assert same(once_, first(source, 6))
    assert same(once_, first(source, 6, workers=2))
    source.train_items = pickle.loads(pickle.dumps(source.train_items))  # as processes that are spawned get it
    assert same(once_, first(source, 6))
    assert not same(once_, first(opened(tmp_path / "clips.csv", kind, seed=1, **options), 6))
    assert not same(once_[:3], once_[3:])
    assert same(list(source.val()), list(opened(tmp_path / "clips.csv", kind, **options).val()))


def test_later_batches_alone(tmp_path: Path) -> None:
    """A fit that goes on gets the batches that it would have got, without those before being made."""
    source = opened(corpus(tmp_path), "class")
    every = source.train(workers=0)
    wanted = [next(every) for _ in range(4)][2:]
    later = source.train(workers=0, start=2)
    assert same([next(later) for _ in range(2)], wanted)


def test_same_features(tmp_path: Path) -> None:
    options = DataOptions(corpus(tmp_path), sample_rate=RATE, workers=0, batch_size=4, features="mfcc:13", masks=2)
    source = open_source(options, "class", LENGTH, FrontEnd(parse_features("mfcc:13"), RATE))
    batches = first(source, 4)
    assert batches[0].x.shape == (4, 13, LENGTH // 80 + 1)
    assert same(batches, first(source, 4, workers=2))


def test_memory_changes_nothing(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    kept, streamed = opened(manifest, "none"), opened(manifest, "none", cache_mb=0)
    assert kept.train_items.clips.checked.cache is not None
    assert streamed.train_items.clips.checked.cache is None
    assert same(first(kept), first(streamed))


def test_val_manifest(tmp_path: Path) -> None:
    """A manifest of its own to validate on; rows of other splits stay out."""
    manifest = corpus(tmp_path)
    source = opened(manifest, val=manifest)
    assert (len(source.train_items.clips), len(source.val_items.clips)) == (9, 3)
    assert sum(len(batch.x) for batch in source.val()) == 3
    assert source.val() is source.val()  # kept in memory
    rows = [{"path": "clips/0.wav", "label": "no", "split": "train"}]
    with pytest.raises(InputError, match="has no rows of the split 'val'"):
        opened(manifest, val=table(tmp_path / "v.csv", rows))
    source.whole = True
    source._val = None
    with pytest.raises(InputError, match="3 rows to validate on do not fill one batch of 4"):
        source.val()


def test_options(tmp_path: Path) -> None:
    assert parse_range("-5:20", "--snr") == (-5.0, 20.0)
    assert parse_range("3", "--gain") == (3.0, 3.0)
    for text in ("20:-5", "a:b", "1:2:3", ""):
        with pytest.raises(InputError, match="write the lowest and the highest value in dB"):
            parse_range(text, "--snr")
    assert parse_labels("a, b") == ("a", "b")
    for text in ("a,,b", "a,a"):
        with pytest.raises(InputError, match="write every label once"):
            parse_labels(text)
    for wrong in ({"pad": "wrap"}, {"crop": 0.0}, {"val_fraction": 1.0}, {"batch_size": 0}, {"masks": 1}):
        with pytest.raises(InputError, match="--"):
            DataOptions(tmp_path, **wrong)  # type: ignore[arg-type]
