"""Recipes: files and modules; whatever is wrong with them is said in one sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.recipe import Recipe, first_of, load_recipe

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


def test_a_recipe_may_say_that_it_has_no_loss(tmp_path: Path) -> None:
    assert load_recipe(_recipe(tmp_path, BATCHES, "loss = None\n")).loss is None


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


def test_a_generator_that_is_closed_inside_a_function_is_its_failure(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, BATCHES, "def loss(outputs, batch):\n    raise GeneratorExit\n"))
    assert recipe.loss is not None
    with pytest.raises(RecipeError, match=r"loss\(\) of .*recipe.py fails: GeneratorExit"):
        recipe.loss(None, None)
    batches = iter(recipe.train_batches())
    next(batches)
    batches.close()  # type: ignore[attr-defined]


def test_gradients_stay_switched_on(tmp_path: Path) -> None:
    off = "def loss(outputs, batch):\n    torch.set_grad_enabled(False)\n    return outputs.sum()\n"
    recipe = load_recipe(_recipe(tmp_path, BATCHES, off))
    assert recipe.loss is not None
    assert not recipe.loss(torch.ones(2, requires_grad=True), None).requires_grad
    assert torch.is_grad_enabled()
