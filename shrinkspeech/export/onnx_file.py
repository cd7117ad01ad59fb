"""ONNX files: reading, what they say about their inputs, and running them in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from shrinkspeech.errors import InputError

Shape = tuple[int, ...]
Example = Sequence[Sequence[int]] | Mapping[str, Sequence[int]]
"""Shapes of the inputs, in the order of the graph or by name."""


def read_model(path: str | Path) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Raises:
        InputError: it does not exist, or is not a valid ONNX model.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, the checker and external data each raise their own
        raise InputError(f"{path} is not a valid ONNX model: {first_line(error)}") from error
    return model


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The file's own metadata."""
    return {entry.key: entry.value for entry in model.metadata_props}


def graph_inputs(model: onnx.ModelProto) -> list[Any]:
    """Inputs that a caller must give: initialisers may be listed among a graph's inputs too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def open_session(model: onnx.ModelProto | bytes | str | Path, threads: int = 1, optimise: bool = True) -> Any:
    """An onnxruntime session on the CPU, silent but for errors.

    Raises:
        InputError: onnxruntime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for each status code
        raise InputError(f"onnxruntime cannot load the model: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else type(error).__name__)[:400]


def example_shapes(model: onnx.ModelProto, example: Example | None = None) -> dict[str, Shape]:
    """The shape of each input, by name: as given, else from the metadata, else as fixed in the graph.

    Raises:
        InputError: no shape is known, or the given ones do not fit the graph's inputs.
    """
    inputs = graph_inputs(model)
    if example is None and "example_shapes" in metadata(model):
        example = json.loads(metadata(model)["example_shapes"])
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
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        text = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims)
        raise InputError(f"input '{value.name}' has no fixed size ({text}): give a shape with --example")
    return tuple(int(dim.dim_value) for dim in dims)


def _fitting(value: Any, shape: Sequence[int]) -> Shape:
    dims = value.type.tensor_type.shape.dim
    fits = len(dims) == len(shape) and all(
        not dim.HasField("dim_value") or dim.dim_value == size for dim, size in zip(dims, shape, strict=True)
    )
    if not fits:
        text = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)
        raise InputError(f"the example shape {tuple(shape)} does not fit input '{value.name}' ({text}) (--example)")
    return tuple(int(size) for size in shape)


def random_feed(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of the given shapes: quiet noise, and ones where whole numbers are asked for."""
    generator = np.random.default_rng(0)
    feed = {}
    for value in graph_inputs(model):
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        floating = np.issubdtype(kind, np.floating)
        data = generator.normal(0.0, 0.1, shapes[value.name]) if floating else np.ones(shapes[value.name])
        feed[value.name] = data.astype(kind)
    return feed


def batch_size(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> int:
    """Items in a batch of the given shapes: the first input's first dimension where it may have any size, else 1."""
    first = next((value for value in graph_inputs(model) if value.type.tensor_type.shape.dim), None)
    if first is None or first.type.tensor_type.shape.dim[0].HasField("dim_value"):
        return 1
    return shapes[first.name][0]


def one_item(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes with a batch of one: every dimension of the batch's name becomes 1."""
    inputs = graph_inputs(model)
    first = inputs[0].type.tensor_type.shape.dim if inputs else []
    batch = first[0].dim_param if first else ""

    def single(value: Any) -> Shape:
        sized = zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True)
        return tuple(1 if batch and dim.dim_param == batch else size for dim, size in sized)

    return {value.name: single(value) for value in inputs}


def fixed_sizes(model: onnx.ModelProto) -> list[dict[int, int]]:
    """For each input the dimensions that the graph fixes, with their sizes."""
    return [
        {at: int(dim.dim_value) for at, dim in enumerate(value.type.tensor_type.shape.dim) if dim.HasField("dim_value")}
        for value in graph_inputs(model)
    ]
