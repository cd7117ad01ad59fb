"""Recipes: files, modules and folders of audio; whatever is wrong with them is said in one sentence."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from shrinkspeech.errors import AudioError, RecipeError
from shrinkspeech.fitting.recipe import Recipe, first_of, load_recipe
from shrinkspeech.tasks.unlabelled import distil_recipe

BATCHES = "def train_batches():\n    yield torch.zeros(2, 8), torch.ones(2)\n"
LOSS = "def loss(outputs, batch):\n    return (outputs - batch[1]).square().mean()\n"


def _recipe(folder: Path, *parts: str) -> Path:
    path = folder / "recipe.py"
    path.write_text("import torch\n" + "".join(parts))
    return path


def _refused(path: object) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file(tmp_path: Path) -> None:
    recipe = load_recipe(
        _recipe(tmp_path, BATCHES, LOSS, "def evaluate(model):\n    return {'eer': torch.tensor(2.5)}\n")
    )
    batch = recipe.peek()
    (x,) = recipe.inputs(batch)
    assert x.shape == (2, 8)
    assert recipe.loss is not None
    assert float(recipe.loss(torch.zeros(2), batch)) == 1.0
    assert recipe.evaluate is not None
    assert recipe.evaluate(None) == {"eer": 2.5}
    assert recipe.example_inputs is None


def test_file_imports_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_recipe.py").write_text("VALUE = 3\n")
    assert load_recipe(_recipe(tmp_path, "from beside_recipe import VALUE\n", BATCHES, LOSS)).loss is not None


def test_namespace_and_recipe() -> None:
    recipe = load_recipe(
        SimpleNamespace(
            train_batches=lambda: [torch.zeros(2, 8)],
            loss=lambda outputs, batch: outputs.mean(),
            example_inputs=lambda: torch.zeros(2, 8),
            inputs=lambda batch: batch,
        )
    )
    assert isinstance(recipe, Recipe)
    assert load_recipe(recipe) is recipe
    assert recipe.example_inputs is not None
    assert recipe.example_inputs()[0].shape == (2, 8)
    assert recipe.inputs(recipe.peek())[0].shape == (2, 8)


@pytest.mark.parametrize(
    ("batch", "shapes"),
    [
        (torch.zeros(2, 8), [(2, 8)]),
        ((torch.zeros(2, 8), torch.ones(2)), [(2, 8)]),
        (((torch.zeros(2, 8), torch.ones(2)), "label"), [(2, 8), (2,)]),
    ],
)
def test_inputs_of_a_batch(batch: object, shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(x.shape) for x in first_of(batch)] == shapes


@pytest.mark.parametrize("batch", [{"x": torch.zeros(2)}, (), ("name", torch.zeros(2)), 3])
def test_inputs_that_cannot_be_found(batch: object) -> None:
    with pytest.raises(RecipeError, match=r"write inputs\(batch\)"):
        first_of(batch)


def test_missing_files(tmp_path: Path) -> None:
    assert "there is no recipe" in _refused(tmp_path / "nowhere.py")
    assert "is a folder" in _refused(tmp_path)
    (tmp_path / "recipe.txt").touch()
    assert "must end in .py" in _refused(tmp_path / "recipe.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BATCHES, "has no loss(outputs, batch)"),
        (LOSS, "has no train_batches()"),
        (BATCHES + LOSS + "evaluate = 3\n", "evaluate of the recipe"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all' (recipe.py:2)"),
        ("def broken(:\n", "SyntaxError: invalid syntax (recipe.py:2)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (recipe.py:2)"),
    ],
)
def test_bad_files(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in _refused(_recipe(tmp_path, text))


def test_no_batches(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, "def train_batches():\n    return []\n", LOSS))
    with pytest.raises(RecipeError, match="yields nothing"):
        recipe.peek()


def test_functions_that_fail(tmp_path: Path) -> None:
    parts = ("def train_batches():\n    raise KeyError('DATA')\n", "def loss(outputs, batch):\n    return 3\n")
    recipe = load_recipe(_recipe(tmp_path, *parts, "def evaluate(model):\n    return 3\n"))
    with pytest.raises(RecipeError, match=r"train_batches\(\) of .* fails: KeyError: 'DATA' \(recipe.py:3\)"):
        recipe.peek()
    assert recipe.loss is not None
    with pytest.raises(RecipeError, match=r"loss\(\) of .* returns int"):
        recipe.loss(None, None)
    assert recipe.evaluate is not None
    with pytest.raises(RecipeError, match=r"evaluate\(\) of .* returns int"):
        recipe.evaluate(None)


# ------------------------------------------------------------------------------------------------------- audio


def _noise(path: Path, samples: int, rate: int = 16_000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = 0.1 * np.random.default_rng(samples).standard_normal((samples, channels))
    sf.write(path, values, rate)


def _first(recipe: Recipe, count: int) -> list[Tensor]:
    return list(islice(recipe.train_batches(), count))


def test_audio(tmp_path: Path) -> None:
    _noise(tmp_path / "long.wav", 40_000)
    _noise(tmp_path / "sub" / "stereo.flac", 3_000, channels=2)
    (tmp_path / "notes.txt").write_text("not audio")
    recipe = distil_recipe(tmp_path, 0.5, 8, seed=3)
    assert recipe.loss is None
    first, again = _first(recipe, 3), _first(recipe, 3)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert first[0].shape == (8, 8_000)
    assert first[0].dtype == torch.float32
    padded = [x for batch in _first(recipe, 10) for x in batch if not x[3_000:].any()]
    assert padded
    assert padded[0][:3_000].any()


def test_audio_with_a_channel_axis(tmp_path: Path) -> None:
    _noise(tmp_path / "a.wav", 4_000)
    assert _first(distil_recipe(tmp_path, 0.1, 2, channel=True), 1)[0].shape == (2, 1, 1_600)


def test_audio_of_the_wrong_rate(tmp_path: Path) -> None:
    _noise(tmp_path / "a.wav", 4_000, rate=8_000)
    with pytest.raises(AudioError, match=r"a\.wav has 8000 Hz where 16000 Hz is needed: .*--sample-rate 8000"):
        distil_recipe(tmp_path, 0.1, 2)


def test_unreadable_audio(tmp_path: Path) -> None:
    _noise(tmp_path / "a.wav", 4_000)
    (tmp_path / "b.wav").write_bytes(b"RIFF but no more")
    with pytest.raises(AudioError, match=r"cannot read the audio file .*b\.wav"):
        distil_recipe(tmp_path, 0.1, 2)


def test_audio_that_goes_away(tmp_path: Path) -> None:
    _noise(tmp_path / "a.wav", 4_000)
    recipe = distil_recipe(tmp_path, 0.1, 2)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(AudioError, match=r"a\.wav"):
        _first(recipe, 1)


def test_no_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="there is no audio in"):
        distil_recipe(tmp_path, 0.1, 2)
    with pytest.raises(AudioError, match="there is no folder"):
        distil_recipe(tmp_path / "nowhere", 0.1, 2)
