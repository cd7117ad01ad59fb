"""What an ONNX file is fed to be counted and timed: the example's own shapes and values where somebody says them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import OnnxFile, Shape
from shrinkspeech.export.shapes import Example, batch_places, entry, example_shapes, items_of, lead_input

Array = np.ndarray[Any, Any]

Values = Mapping[str, float | Sequence[float]]
"""What inputs hold, by name: one number for all their elements, or one for each."""

KEPT_VALUES = 4096
"""Inputs of more elements than this are not written into a file's metadata."""


@dataclass(frozen=True)
class Feed:
    """Inputs of one run.

    Attributes:
        arrays: the inputs by name.
        items: how many items of a batch they hold.
        notes: what was taken because nobody says it, in sentences.
        assumed: inputs that hold a number for each item (or one), which nobody says.
        doubts: what the cost depends on and nobody says, in sentences: no limit is met on it.
    """

    arrays: Mapping[str, Array]
    items: int
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def with_value(self, name: str, value: float) -> Feed:
        """The same with one number in the whole of an input."""
        old = self.arrays[name]
        return replace(self, arrays={**self.arrays, name: np.full(old.shape, value).astype(old.dtype)})


def example_feed(
    file: OnnxFile, example: Example | None = None, values: Values | None = None, batch: int | None = None
) -> Feed:
    """Inputs for a file, with the values that are given or that its metadata keeps; noise and ones where none are.

    Args:
        example: shapes of the inputs; from the file's metadata if not given, or as fixed in the graph.
        values: what some inputs hold.
        batch: items in the example; the first input's first dimension if not given, where that may have any size.

    Raises:
        InputError: no shape is known, or what is given does not fit the graph's inputs.
    """
    shapes = example_shapes(file, example)
    items, notes = items_of(file, shapes, batch)
    given = dict(values or {})
    unknown = sorted(given.keys() - shapes.keys())
    if unknown:
        raise InputError(f"--feed {unknown[0]} names no input: the model has {', '.join(shapes)}")
    said = {**_kept_values(file, shapes), **given}
    arrays, assumed = {}, []
    lead = lead_input(file, shapes)
    per_batch = 1 if lead is None else max(1, shapes[lead.name][0])
    generator = np.random.default_rng(0)
    for value in file.inputs:
        name, shape, kind = value.name, shapes[value.name], _kind(value)
        few = math.prod(shape) <= per_batch
        if name in said:
            arrays[name] = _filled(name, said[name], shape, kind)
        elif np.issubdtype(kind, np.floating) and not few:
            arrays[name] = generator.normal(0.0, 0.1, shape).astype(kind)
        else:
            arrays[name] = np.ones(shape, kind)
            if few and not np.issubdtype(kind, np.bool_):
                assumed.append(name)
            else:
                notes += (f"'{name}' is fed ones",)
    return Feed(arrays, items, notes, tuple(assumed))


def _kind(value: Any) -> np.dtype[Any]:
    kind = value.type.tensor_type.elem_type
    if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING) or kind not in onnx.TensorProto.DataType.values():
        raise InputError(f"input '{value.name}' holds no numbers: only tensors of numbers can be fed")
    return onnx.helper.tensor_dtype_to_np_dtype(kind)


def _filled(name: str, numbers: Any, shape: Shape, kind: np.dtype[Any]) -> Array:
    given = np.asarray(numbers)
    if given.size not in (1, math.prod(shape)):
        text = "×".join(map(str, shape)) or "one number"
        raise InputError(f"--feed {name}: {given.size} numbers do not fill {text}: give one, or one for each element")
    filled = np.broadcast_to(given.reshape(-1), shape) if given.size == 1 else given.reshape(shape)
    with np.errstate(invalid="ignore"):
        made: Array = filled.astype(kind)
    if not np.issubdtype(kind, np.floating) and not np.array_equal(made, filled):
        raise InputError(f"--feed {name}: the input holds {kind}, and {numbers} is none")
    return made


def _kept_values(file: OnnxFile, shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Values that the export kept, as long as nothing but the number of items is asked for otherwise."""
    kept = entry(file, "example_values", "--feed") or {}
    if not isinstance(kept, Mapping):
        raise InputError(f"the entry 'example_values' of {file} is no list of inputs: give --feed")
    if not kept or {name: shape[1:] for name, shape in shapes.items()} != {
        name: shape[1:] for name, shape in example_shapes(file).items()
    }:
        return {}
    return {name: _numbers(file, name, kept[name], shapes[name]) for name in kept.keys() & shapes.keys()}


def _numbers(file: OnnxFile, name: str, kept: Any, shape: Shape) -> Array:
    """Values of the metadata, repeated or cut to the number of items asked for: the longest remain."""
    try:
        whole = np.asarray(kept)
    except ValueError:  # lists of different lengths
        whole = np.asarray(None)
    if whole.dtype.kind not in "biuf":
        raise InputError(f"the entry 'example_values' of {file} holds no numbers for '{name}': give --feed")
    if whole.shape[1:] != shape[1:] or whole.shape[:1] == shape[:1]:
        return whole
    order = np.argsort(-whole.reshape(len(whole), -1).astype(float).sum(1), kind="stable")
    return np.resize(whole[order], shape)


def single(file: OnnxFile, feed: Feed) -> Feed:
    """The longest item of a feed alone: the one with the largest whole numbers, which are lengths or masks."""
    places = batch_places(file, {name: array.shape for name, array in feed.arrays.items()}, feed.items)
    whole = [
        np.moveaxis(array, places[name][0], 0).reshape(feed.items, -1).astype(float).sum(1)
        for name, array in feed.arrays.items()
        if places[name] and not np.issubdtype(array.dtype, np.floating)
    ]
    chosen = int(np.argmax(whole[0])) if whole else 0
    arrays = dict(feed.arrays)
    for name, dims in places.items():
        for dim in dims:
            arrays[name] = arrays[name].take([chosen], axis=dim)
    alone = 1 if any(places.values()) else feed.items
    return replace(feed, arrays=arrays, items=alone)
