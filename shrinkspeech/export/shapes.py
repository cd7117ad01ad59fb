"""Shapes of an ONNX file's example, and which of their dimensions is the batch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import OnnxFile, Shape, dims_of

Example = Sequence[Sequence[int]] | Mapping[str, Sequence[int]]
"""Shapes of the inputs, in the order of the graph or by name."""

MOST_ELEMENTS = 2**31 - 1
"""Numbers in an input: those of 37 hours of audio at 16 kHz."""

TIME = re.compile(r"time|frame|sample|len|seq|^t$", re.IGNORECASE)
"""Names of a dimension that is no batch."""


def entry(file: OnnxFile, key: str, option: str) -> Any:
    """An entry of the metadata that holds JSON, or None."""
    if key not in file.metadata:
        return None
    try:
        return json.loads(file.metadata[key])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the entry '{key}' of {file} is not JSON: give {option} ({error})") from error


def example_shapes(file: OnnxFile, example: Example | None = None) -> dict[str, Shape]:
    """The shape of each input, by name: as given, else from the metadata, else as fixed in the graph.

    Raises:
        InputError: no shape is known, or the given ones do not fit the graph's inputs.
    """
    inputs = file.inputs
    if example is None:
        example = _kept_shapes(file) or [_fixed_shape(value) for value in inputs]
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
    if any(size < 0 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
        text = "×".join(map(str, shape))
        raise InputError(f"input '{value.name}' cannot be fed {text} numbers: give a shape with --example")
    return tuple(int(size) for size in shape)


def _kept_shapes(file: OnnxFile) -> Sequence[Sequence[int]] | None:
    kept = entry(file, "example_shapes", "--example")
    whole = isinstance(kept, list) and all(
        isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape) for shape in kept
    )
    if kept is not None and not whole:
        raise InputError(f"the entry 'example_shapes' of {file} is no list of shapes: give --example")
    return kept


def lead_input(file: OnnxFile, shapes: Mapping[str, Shape]) -> Any:
    """The first input that has several dimensions: its first one is the batch."""
    return next((value for value in file.inputs if len(shapes[value.name]) > 1), None)


def items_of(file: OnnxFile, shapes: Mapping[str, Shape], batch: int | None) -> tuple[int, tuple[str, ...]]:
    """Items in a batch of the given shapes, and what was taken because nobody says it.

    The batch is the first dimension of the first input that has several. In files by other hands it is one item where the
    graph fixes that dimension or calls it a time: too much is counted then rather than too little.

    Raises:
        InputError: the batch given is not positive.
    """
    if batch is not None:
        if batch < 1:
            raise InputError(f"--batch must be at least 1, not {batch}")
        return batch, ()
    lead = lead_input(file, shapes)
    size = 1 if lead is None else shapes[lead.name][0]
    if lead is None or size == 1:
        return 1, ()
    first = dims_of(lead)[0]
    fixed = first.HasField("dim_value")
    if "batch" in file.metadata and (not fixed or file.metadata["batch"] == str(size)):
        return size, ()
    if fixed or TIME.search(first.dim_param):
        kind = f"fixed at {size}" if fixed else f"called '{first.dim_param}'"
        return 1, (
            f"the first dimension of '{lead.name}' is {kind} and counts as one item: --batch {size} if it is a batch",
        )
    return size, (f"the first dimension of '{lead.name}' is taken as a batch of {size}",)


def batch_places(file: OnnxFile, shapes: Mapping[str, Shape], items: int) -> dict[str, list[int]]:
    """For each input the dimensions that are the batch and may have any size: those of one name, and first ones of its size."""
    lead = lead_input(file, shapes)
    first = None if lead is None else dims_of(lead)[0]
    if lead is None or first is None or first.HasField("dim_value") or shapes[lead.name][0] != items:
        return {value.name: [] for value in file.inputs}

    def is_batch(at: int, dim: Any, size: int) -> bool:
        named = bool(dim.dim_param) and dim.dim_param == first.dim_param
        return size == items and not dim.HasField("dim_value") and (named or at == 0)

    return {
        value.name: [
            at
            for at, (dim, size) in enumerate(zip(dims_of(value), shapes[value.name], strict=True))
            if is_batch(at, dim, size)
        ]
        for value in file.inputs
    }
