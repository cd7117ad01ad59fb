"""Recipes: what a fit needs from the user, in one Python file.

    def train_batches():                 # yields batches; a fit starts it again when it ends
    def loss(outputs, batch):            # one number as a tensor; loss = None trains towards the original's outputs
    def evaluate(model):                 # optional: {"eer": 7.7}, shown before and after
    def example_inputs():                # optional: one tensor for each input of the model
    def inputs(batch):                   # optional: what of a batch the model takes; by default its first element

Whatever these functions raise becomes a ``RecipeError`` that names the function, the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.errors import RecipeError, ShrinkSpeechError
from shrinkspeech.fitting.identity import source_hash
from shrinkspeech.loading.usercode import FAILURES, blame, import_file


def first_of(batch: Any) -> tuple[Any, ...]:
    """What a model takes of a batch unless the recipe says otherwise: the batch itself, or its first element.

    Raises:
        RecipeError: neither is a tensor or a tuple of tensors.
    """
    value = batch[0] if isinstance(batch, tuple | list) and batch else batch
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not values or not all(isinstance(item, Tensor) for item in values):
        raise RecipeError(
            f"cannot find the model's input in a batch of type {type(batch).__name__}: "
            "let train_batches() yield (input, …), or write inputs(batch) in the recipe"
        )
    return values


@dataclass(frozen=True)
class Recipe:
    """What a fit trains on.

    Attributes:
        train_batches: starts an iteration over training batches.
        loss: ``loss(outputs, batch)``; None to train towards the original model's outputs.
        evaluate: metrics of a model by name.
        example_inputs: one tensor for each input of the model.
        inputs: the model's arguments in a batch.
        name: for messages.
        batches_from: the same batches without so many at the start, where they need not be made to be skipped.
        identity: facts by name that tell it and its data from others, for a fit that goes on.
        train_rows: starts an iteration over the rows of each batch that one of several processes makes, given its number
            and how many there are, and the size of each batch; None where every process makes whole batches.
    """

    train_batches: Callable[[], Iterable[Any]]
    loss: Callable[[Any, Any], Tensor] | None
    evaluate: Callable[[Any], Mapping[str, float]] | None = None
    example_inputs: Callable[[], tuple[Any, ...]] | None = None
    inputs: Callable[[Any], tuple[Any, ...]] = first_of
    name: str = "recipe"
    batches_from: Callable[[int], Iterable[Any]] | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    train_rows: Callable[[int, int], Iterator[tuple[Any, int]]] | None = None

    def peek(self) -> Any:
        """The first training batch.

        Raises:
            RecipeError: there is none.
        """
        for batch in self.train_batches():
            return batch
        raise RecipeError(f"train_batches() of {self.name} yields nothing: it must yield at least one batch")


def load_recipe(source: Any) -> Recipe:
    """A recipe from a Python file, from a module or object with the same functions, or as it is.

    Raises:
        RecipeError: the file is missing or does not import, or ``train_batches`` or ``loss`` is not there.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, str | Path):
        found = _from_namespace(_imported(Path(source)), str(source))
    else:
        found = _from_namespace(source, str(getattr(source, "__name__", None) or type(source).__name__))
    return replace(found, identity={"recipe": source_hash(source)})


def _imported(path: Path) -> Any:
    if path.is_dir():
        raise RecipeError(f"the recipe {path} is a folder: give a Python file")
    if not path.is_file():
        raise RecipeError(
            f"there is no recipe {path}: give a Python file with train_batches() and loss(outputs, batch)"
        )
    if path.suffix != ".py":
        raise RecipeError(f"the recipe {path} is not a Python file: its name must end in .py")
    try:
        return import_file(path)
    except FAILURES as error:
        raise RecipeError(f"the recipe {path} does not import: {blame(error)}") from error


def _from_namespace(source: Any, name: str) -> Recipe:
    found = {
        key: _function(source, key, name) for key in ("train_batches", "loss", "evaluate", "example_inputs", "inputs")
    }
    batches, loss = found["train_batches"], found["loss"]
    if batches is None:
        raise RecipeError(f"the recipe {name} has no train_batches(): write a function that yields training batches")
    if loss is None and not _says(source, "loss"):
        raise RecipeError(
            f"the recipe {name} has no loss(outputs, batch): write one, or loss = None to train towards the original's outputs"
        )
    evaluate, example, inputs = found["evaluate"], found["example_inputs"], found["inputs"]
    return Recipe(
        train_batches=_guarded_batches(batches, name),
        loss=loss and _guarded(loss, f"loss() of {name}", _as_loss),
        evaluate=evaluate and _guarded(evaluate, f"evaluate() of {name}", _as_metrics),
        example_inputs=example and _guarded(example, f"example_inputs() of {name}", _as_tuple),
        inputs=first_of if inputs is None else _guarded(inputs, f"inputs() of {name}", _as_tuple),
        name=name,
    )


def _says(source: Any, key: str) -> bool:
    return key in source if isinstance(source, Mapping) else hasattr(source, key)


def _function(source: Any, key: str, name: str) -> Callable[..., Any] | None:
    value = source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)
    if value is not None and not callable(value):
        raise RecipeError(f"{key} of the recipe {name} is of type {type(value).__name__}: it must be a function")
    return value


def _guarded(function: Callable[..., Any], title: str, check: Callable[[Any, str], Any]) -> Callable[..., Any]:
    """The function, with everything that it raises told as an error of the recipe."""

    @wraps(function)
    def call(*args: Any) -> Any:
        with_error: BaseException
        learning = torch.is_grad_enabled()
        try:
            value = function(*args)
        except ShrinkSpeechError:
            raise
        except (*FAILURES, GeneratorExit) as error:
            with_error = error
        else:
            return check(value, title)
        finally:
            torch.set_grad_enabled(learning)  # what the user's code switches off ends with it
        raise RecipeError(f"{title} fails: {blame(with_error)}") from with_error

    return call


def _guarded_batches(function: Callable[[], Iterable[Any]], name: str) -> Callable[[], Iterator[Any]]:
    @wraps(function)
    def batches() -> Iterator[Any]:
        try:
            yield from function()
        except ShrinkSpeechError:
            raise
        except FAILURES as error:
            raise RecipeError(f"train_batches() of {name} fails: {blame(error)}") from error

    return batches


def _as_loss(value: Any, title: str) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        kind = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RecipeError(f"{title} returns {kind}: it must return one number as a tensor")
    if value.is_complex():
        raise RecipeError(f"{title} returns a complex number: it must return a real one, such as its abs()")
    return value.reshape(())


def _as_metrics(value: Any, title: str) -> dict[str, float]:
    try:
        return {str(key): float(number) for key, number in value.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{title} returns {type(value).__name__}: it must return numbers by name, such as {{'eer': 7.7}}"
        ) from error


def _as_tuple(value: Any, title: str) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not values or not any(isinstance(item, Tensor) for item in values):
        raise RecipeError(f"{title} returns {type(value).__name__}: it must return a tuple of tensors")
    return values
