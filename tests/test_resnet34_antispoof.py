"""The sample anti-spoofing model: shapes, shrinking, and its seeded data, on audio made here."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import shrinkspeech
from sample_models.resnet34_antispoof import recipe, train
from sample_models.resnet34_antispoof.augment import Channel, change_channel, mask
from sample_models.resnet34_antispoof.data import CROP, FRAMES, RATE, Draws, crop, read_clips
from sample_models.resnet34_antispoof.model import COEFFICIENTS, load, resnet34_antispoof

WEIGHTS = Path(recipe.__file__).with_name("weights.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine short clips in a folder like the real one: noise is bona fide, tones are spoofs."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(9):
        spoof, split = i % 2 == 0, ("train", "val", "test")[i % 3]
        tone = np.sin(np.arange(2 * RATE) * (0.1 + 0.02 * i))
        samples = 0.1 * (tone if spoof else rng.normal(size=2 * RATE))
        sf.write(tmp_path / f"{i}.flac", samples, RATE)
        rows.append([f"{i}.flac", "tones", "spoof" if spoof else "bonafide", split, "made", 0.25, 1.5 if i else 1.0])
    with (tmp_path / "spoof.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "corpus", "label", "split", "source_corpus", "start", "dur"], *rows])
    return tmp_path


def test_only_the_given_part_of_a_clip_is_read(folder: Path) -> None:
    clips = read_clips(folder, "train")
    assert [len(clip.samples) for clip in clips] == [RATE, 3 * RATE // 2, 3 * RATE // 2]
    whole, _ = sf.read(folder / "0.flac", dtype="float32")
    assert np.array_equal(clips[0].samples, whole[RATE // 4 : RATE // 4 + RATE])
    assert crop(clips[0].samples, 0.5).shape == crop(clips[1].samples, 1.0).shape == (CROP,)


def test_draws_are_balanced_and_seeded(folder: Path) -> None:
    first, again, other = (Draws(read_clips(folder, "train"), seed).batch(200) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert 0.35 < float(first[1].mean()) < 0.65


def test_augmentation_keeps_shapes_and_changes_values() -> None:
    waves = 0.1 * torch.randn(4, CROP, generator=torch.Generator().manual_seed(0))
    changed, again = (change_channel(waves, Channel(), np.random.default_rng(1)) for _ in range(2))
    assert changed.shape == waves.shape
    assert torch.equal(changed, again)
    assert bool(changed.isfinite().all())
    assert not torch.allclose(changed, waves)
    features = torch.randn(4, FRAMES, COEFFICIENTS)
    masked = mask(features, Channel(), np.random.default_rng(1))
    assert 0.4 < float((masked == features).float().mean()) < 1.0
    assert torch.equal(mask(features, Channel(masks=0), np.random.default_rng(1)), features)


def test_the_recipe_is_the_same_for_the_same_seed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHRINKSPEECH_DATA", str(folder))
    monkeypatch.setattr(recipe, "POOL", 64)
    recipe._pool.cache_clear()
    (x, y), (again, _), (other, _) = (next(recipe.train_batches(seed)) for seed in (5, 5, 6))
    assert x.shape == (recipe.BATCH, FRAMES, COEFFICIENTS)
    assert y.shape == (recipe.BATCH,)
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    model = resnet34_antispoof().eval()
    assert set(recipe.evaluate(model)) == {"eer", "auc"}
    assert set(recipe.test(model)) == {"eer", "auc", "val_eer", "val_auc"}
    assert recipe.test(model) == recipe.test(model)
    assert 0.0 <= recipe.interval(model)["low"] <= recipe.interval(model)["high"] <= 100.0
    recipe._pool.cache_clear()


def test_every_layer_but_the_output_can_shrink() -> None:
    torch.manual_seed(0)
    model = resnet34_antispoof().eval()
    captured = shrinkspeech.capture(model, recipe.example_inputs())
    groups = shrinkspeech.label(captured)
    readers = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert len(readers) == 36  # 33 convolutions with the stem, 3 shortcuts
    assert len(groups.shrinkable) == 20  # 16 inside the blocks, 4 along the residual paths
    small = shrinkspeech.slice(captured, groups, {group.name: group.size // 2 for group in groups.shrinkable})
    assert shrinkspeech.flops(small) < 0.3 * shrinkspeech.flops(captured)
    assert small.module()(torch.randn(3, 80, COEFFICIENTS)).shape == (3,)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY", 1)
    monkeypatch.setattr(train, "BATCH", 4)
    whole = train.train(train.Options(folder, tmp_path / "whole.safetensors", 2, 0, 1e-3))
    cut, step = train.Options(folder, tmp_path / "cut.safetensors", 2, 0, 1e-3), train.step

    def once(run: train.Run) -> float:
        if run.step:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(train, "step", once)
    with pytest.raises(KeyboardInterrupt):
        train.train(cut)
    monkeypatch.setattr(train, "step", step)
    resumed = train.train(cut).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.state_dict().items())


@pytest.mark.skipif("SHRINKSPEECH_DATA" not in os.environ, reason="SHRINKSPEECH_DATA names no data folder")
def test_the_weights_tell_spoofs_apart() -> None:
    assert recipe.evaluate(load(WEIGHTS))["auc"] > 0.95
