"""What an ONNX file is fed to be counted and timed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import OnnxFile, Shape, dims_of

Example = Sequence[Sequence[int]] | Mapping[str, Sequence[int]]
"""Shapes of the inputs, in the order of the graph or by name."""


def example_shapes(file: OnnxFile, example: Example | None = None) -> dict[str, Shape]:
    """The shape of each input, by name: as given, else from the metadata, else as fixed in the graph.

    Raises:
        InputError: no shape is known, or the given ones do not fit the graph's inputs.
    """
    inputs = file.inputs
    if example is None and "example_shapes" in file.metadata:
        example = json.loads(file.metadata["example_shapes"])
    if example is None:
        example = [_fixed_shape(value) for value in inputs]
    if not isinstance(example, Mapping):
        if len(example) != len(inputs):
            names = ", ".join(value.name for value in inputs)
            given = f"{len(example)} example shapes were given"
            raise InputError(f"{given}, the model has {len(inputs)} inputs: {names} (--example)")
        example = dict(zip((value.name for value in inputs), example, strict=True))
    missing = [value.name for value in inputs if value.name not in example]
    if missing:
        raise InputError(f"there is no example shape for input '{missing[0]}': give it with --example")
    return {value.name: _fitting(value, example[value.name]) for value in inputs}


def _fixed_shape(value: Any) -> Shape:
    dims = dims_of(value)
    if not all(dim.HasField("dim_value") for dim in dims):
        text = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims)
        raise InputError(f"input '{value.name}' has no fixed size ({text}): give a shape with --example")
    return tuple(int(dim.dim_value) for dim in dims)


def _fitting(value: Any, shape: Sequence[int]) -> Shape:
    dims = dims_of(value)
    fits = len(dims) == len(shape) and all(
        not dim.HasField("dim_value") or dim.dim_value == size for dim, size in zip(dims, shape, strict=True)
    )
    if not fits:
        text = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)
        raise InputError(f"the example shape {tuple(shape)} does not fit input '{value.name}' ({text}) (--example)")
    return tuple(int(size) for size in shape)


def random_feed(file: OnnxFile, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of the given shapes: quiet noise, and ones where whole numbers are asked for."""
    generator = np.random.default_rng(0)
    feed = {}
    for value in file.inputs:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        floating = np.issubdtype(kind, np.floating)
        data = generator.normal(0.0, 0.1, shapes[value.name]) if floating else np.ones(shapes[value.name])
        feed[value.name] = data.astype(kind)
    return feed


def batch_size(file: OnnxFile, shapes: Mapping[str, Shape]) -> int:
    """Items in a batch of the given shapes: the first input's first dimension where it may have any size, else 1."""
    first = next((value for value in file.inputs if dims_of(value)), None)
    if first is None or dims_of(first)[0].HasField("dim_value"):
        return 1
    return shapes[first.name][0]


def one_item(file: OnnxFile, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes with a batch of one: every dimension of the batch's name becomes 1."""
    first = dims_of(file.inputs[0]) if file.inputs else []
    batch = first[0].dim_param if first else ""

    def single(value: Any) -> Shape:
        sized = zip(dims_of(value), shapes[value.name], strict=True)
        return tuple(1 if batch and dim.dim_param == batch else size for dim, size in sized)

    return {value.name: single(value) for value in file.inputs}
