"""Agreement of an ONNX model with torch, at several sizes of the inputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.errors import ExportError
from shrinkspeech.export.onnx_file import OnnxFile, Shape, first_line
from shrinkspeech.export.timing import feed_of
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import distance
from shrinkspeech.graph.sizes import other_inputs, smaller, symbols


@dataclass(frozen=True)
class Difference:
    """How far two models are apart on one set of inputs.

    Attributes:
        shapes: shape of each input tensor.
        difference: largest difference over all outputs, relative to the largest value of an output; infinite if shapes
            differ or a value is not a number.
    """

    shapes: tuple[Shape, ...]
    difference: float


def parity(
    reference: Captured | Callable[..., Any], file: OnnxFile | str | Path | bytes, inputs_list: Sequence[Sequence[Any]]
) -> tuple[Difference, ...]:
    """Compare an ONNX model (onnxruntime, CPU, one thread) with torch on each of several inputs.

    Raises:
        InputError: onnxruntime cannot load the file.
        ExportError: onnxruntime cannot run it on inputs that torch can run.
    """
    session = OnnxFile.of(file).session()
    call = reference.graph_module if isinstance(reference, Captured) else reference
    return tuple(Difference(shapes_of(inputs), _difference(call, session, inputs)) for inputs in inputs_list)


def _difference(call: Callable[..., Any], session: Any, inputs: Sequence[Any]) -> float:
    with torch.no_grad():
        wanted = _as_onnx(call(*copy.deepcopy(tuple(inputs))))
    feed = feed_of(session, inputs)
    try:
        found = session.run(None, feed)
    except Exception as error:  # onnxruntime has an exception class for each status code
        text = shapes_text(shapes_of(inputs))
        raise ExportError(f"onnxruntime cannot run the ONNX model on inputs of {text}: {first_line(error)}") from error
    if len(wanted) != len(found):
        return math.inf
    return max((distance(torch.as_tensor(np.asarray(x)), y) for x, y in zip(found, wanted, strict=True)), default=0.0)


def _as_onnx(outputs: Any) -> list[Tensor]:
    """Output tensors in order; a complex one has a last axis of (real, imaginary), as ONNX has no complex numbers."""
    tensors = [x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor)]
    return [torch.view_as_real(x.resolve_conj()) if x.is_complex() else x for x in tensors]


def shapes_of(inputs: Sequence[Any]) -> tuple[Shape, ...]:
    """The shape of each tensor among (nested) inputs."""
    return tuple(tuple(x.shape) for x in pytree.tree_leaves(tuple(inputs)) if isinstance(x, Tensor))


def shapes_text(shapes: Sequence[Shape]) -> str:
    """``2×16000, 2×80×100``; a scalar is ``()``."""
    return ", ".join("×".join(str(size) for size in shape) or "()" for shape in shapes)


def sizes_to_try(captured: Captured) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
    """Inputs of two batch sizes and two lengths, as far as the model has them, and what was left out, in sentences.

    A batch of one is what most deployments run, so it is one of the sizes.
    """
    kept: dict[tuple[Shape, ...], tuple[Any, ...]] = {}
    notes: list[str] = []
    for batch in (lambda size: size, lambda size: 1):
        for length in (lambda dim, size: size, smaller):

            def scale(dim: int, size: int, batch: Any = batch, length: Any = length) -> int:
                return int(batch(size) if dim == 0 else length(dim, size))

            inputs = other_inputs(captured, scale)
            shapes = shapes_of(inputs)
            try:
                with torch.no_grad():
                    captured.graph_module(*copy.deepcopy(inputs))
                kept[shapes] = inputs
            except Exception as error:  # the user's model may refuse a size for its own reasons
                why = first_line(error)
                notes.append(f"not compared at {shapes_text(shapes)}: the captured graph fails there ({why})")
    return list(kept.values()), tuple(dict.fromkeys(notes))


def sized_as(captured: Captured, file: OnnxFile) -> Captured:
    """The record with the example at the sizes that an ONNX model fixes, and only its other dimensions dynamic."""
    leaves = pytree.tree_leaves(captured.example_inputs)
    tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    fixed = dict(zip(tensors, file.fixed_sizes, strict=False))
    for name, places in symbols(captured).items():
        sizes = [fixed.get(index, {}).get(dim) for index, dim in places]
        size = next((size for size in sizes if size is not None), None)
        if size is not None:
            inputs = other_inputs(captured, lambda dim, old, size=size: size, only=name)  # type: ignore[misc]
            dynamic = tuple(
                dims - {dim for at, dim in places if at == index} for index, dims in enumerate(captured.dynamic)
            )
            captured = replace(captured, example_inputs=inputs, dynamic=dynamic)
    return captured
