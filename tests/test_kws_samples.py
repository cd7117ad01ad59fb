"""The keyword spotters: shapes, weights, and the recipes on a few synthetic clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf
import torch

import shrinkspeech
from sample_models.dscnn_kws import manifest, protocol
from sample_models.dscnn_kws.data import CORPUS, cover
from sample_models.dscnn_kws.model import KEYWORDS
from sample_models.dscnn_kws.sample import Spotter
from shrinkspeech.fitting.recipe import load_recipe

FOLDER = Path(__file__).resolve().parents[1] / "sample_models"
NAMES = ("dscnn_kws", "tcresnet_kws")
SPLITS = ("train", "val", "test")


def _part(name: str, part: str) -> ModuleType:
    return import_module(f"sample_models.{name}.{part}")


def _spotter(name: str) -> Spotter:
    found = _part(name, "sample").SPOTTER
    assert isinstance(found, Spotter)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of one clip for each keyword and split: 0.5 s to 1.5 s of tone, and 0.3 s of noise."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    speech, noise = [], []
    for split in SPLITS:
        for i, word in enumerate(KEYWORDS):
            seconds = 0.5 + 0.2 * i
            tone = 0.1 * np.sin(2 * np.pi * 300.0 * (i + 1) * np.arange(round(seconds * 16_000)) / 16_000)
            sf.write(folder / f"{split}_{word}.wav", tone, 16_000)
            speech.append((f"{split}_{word}.wav", CORPUS, f"s{split}", word, f"{seconds}", split))
        for voice in ("no", "yes"):
            sf.write(folder / f"{split}_{voice}.wav", 0.1 * rng.standard_normal(4_800), 16_000)
            noise.append((f"{split}_{voice}.wav", split, voice))
    speech.append(("absent.wav", "other", "x", "zero", "1", "train"))
    manifest.write_csv(
        folder / "speech.csv", ("path", "corpus", "speaker", "text_or_label", "seconds", "split"), speech
    )
    manifest.write_csv(folder / "noise.csv", ("path", "split", "human_voice"), noise)
    return folder


@pytest.fixture
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SHRINKSPEECH_DATA", str(folder))
    monkeypatch.setattr(protocol, "POOL", 128)
    yield folder
    protocol._pool.cache_clear()
    protocol._fixed.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_weights(name: str) -> None:
    weights = FOLDER / name / "weights.safetensors"
    model = _part(name, "model").load(weights)
    example = _spotter(name).example()
    assert model(example).shape == (2, len(KEYWORDS))
    assert model(example[:, :-7]).shape == (2, len(KEYWORDS))
    assert weights.stat().st_size < 3e6


@pytest.mark.parametrize("name", NAMES)
def test_everything_between_input_and_output_can_shrink(name: str) -> None:
    captured = shrinkspeech.capture(_spotter(name).factory().eval(), (_spotter(name).example(),))
    groups = shrinkspeech.label(captured)
    frozen = {group.frozen for group in groups if group.frozen}
    assert all("input" in reason or "output" in reason for reason in frozen), frozen


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_keeps_the_protocol(name: str, data: Path) -> None:
    module = _part(name, "recipe")
    recipe = load_recipe(FOLDER / name / "recipe.py")
    first, again, other = (
        [x for x, _ in islice(module.train_batches(seed), 5)] for seed in (1, 1, 2)
    )  # five batches are more than one round of the small pool
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    model = _part(name, "model").load(FOLDER / name / "weights.safetensors")
    batch = recipe.peek()
    assert recipe.loss is not None
    assert recipe.loss(model(batch[0]), batch).ndim == 0
    (example,) = module.example_inputs()
    assert example.shape[1:] == batch[0].shape[1:]
    assert module.test(model) == module.test(lambda x: model(x))
    assert module.METRIC in module.evaluate(model)
    assert 1.2 <= module.SECONDS < 1.23  # frames × hop


def test_measures_count_what_is_wrong(data: Path) -> None:
    found = _part("dscnn_kws", "recipe").test(lambda x: torch.eye(len(KEYWORDS))[torch.zeros(len(x), dtype=torch.long)])
    assert found["error"] == pytest.approx(100 * 5 / 6)
    assert found["macro_f1"] == pytest.approx(100 * (2 / 7) / 6)


def test_cover_hides_one_stripe() -> None:
    x = torch.ones(64, 40, 20)
    covered = cover(x, 1, torch.Generator().manual_seed(0))
    hidden = (covered == 0).all(2).sum(1)
    assert torch.equal(covered.amax(2), covered.amin(2))  # whole frames
    assert set(hidden.tolist()) == set(range(6))


def test_manifests_name_train_and_val_alone(folder: Path, tmp_path: Path) -> None:
    manifest.main(["--data", str(folder), "-o", str(tmp_path)])
    with (tmp_path / "keywords.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {line["split"] for line in lines} == {"train", "val"}
    assert {line["label"] for line in lines} == set(KEYWORDS)
    assert all(Path(line["path"]).is_file() for line in lines)
    nemo = [json.loads(line) for line in (tmp_path / "keywords.json").read_text(encoding="utf-8").splitlines()]
    assert len(nemo) == len(KEYWORDS)
    assert set(nemo[0]) == {"audio_filepath", "duration", "command"}
    assert "_yes" not in (tmp_path / "noise.csv").read_text(encoding="utf-8")
