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

from shrinkspeech.defaults import HALF_TOLERANCE, TOLERANCE
from shrinkspeech.errors import ExportError
from shrinkspeech.export.onnx_file import OnnxFile, Shape, first_line
from shrinkspeech.export.timing import feed_of
from shrinkspeech.graph.captured import Axis, Captured, attribute
from shrinkspeech.graph.compare import distance, is_sound, seeded
from shrinkspeech.graph.modes import is_recurrent
from shrinkspeech.graph.proof import candidates
from shrinkspeech.graph.sizes import axes_of, extent, resized, size_at

ONE_SIZE = "compared at 1 size only"
"""How the note begins that is a warning: the model may differ at any other size."""


def tolerance_of(captured: Captured) -> float:
    """What a model may differ by in onnxruntime, by the type of its numbers."""
    numbers = (*captured.graph_module.parameters(), *captured.graph_module.buffers())
    return HALF_TOLERANCE if any(x.dtype is torch.float16 for x in numbers) else TOLERANCE


def refuse_half_recurrence(captured: Captured) -> None:
    """onnxruntime casts around recurrent layers in float16, and crashes with the whole process where convolutions stand beside.

    Raises:
        ExportError: there is such a layer; the message names it.
    """
    for node in captured.graph_module.graph.nodes:
        weights = [attribute(captured.graph_module, str(x.target)) for x in node.all_input_nodes if x.op == "get_attr"]
        if is_recurrent(node.target) and any(weight.dtype is torch.float16 for weight in weights):
            raise ExportError(
                f"{node.target} ({captured.where(node)}) is in float16, with which onnxruntime may crash: export the model in "
                "float32 (model.float(), and its example)"
            )


@dataclass(frozen=True)
class Difference:
    """How far two models are apart on one set of inputs.

    Attributes:
        shapes: shape of each input tensor.
        difference: largest difference over all outputs, relative to the largest value of an output; infinite if shapes
            differ, and where outputs of either are not finite: those never agree.
        sound: whether torch's own outputs are finite (-inf, the log of 0, may stand beside finite ones).
    """

    shapes: tuple[Shape, ...]
    difference: float
    sound: bool = True


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
    return tuple(_difference(call, session, inputs) for inputs in inputs_list)


def _difference(call: Callable[..., Any], session: Any, inputs: Sequence[Any]) -> Difference:
    with torch.no_grad():
        wanted = _as_onnx(call(*copy.deepcopy(tuple(inputs))))
    shapes, sound = shapes_of(inputs), is_sound(wanted)
    feed = feed_of(session, inputs)
    try:
        found = [torch.as_tensor(np.asarray(x)) for x in session.run(None, feed)]
    except Exception as error:  # onnxruntime has an exception class for each status code
        text = shapes_text(shapes)
        raise ExportError(f"onnxruntime cannot run the ONNX model on inputs of {text}: {first_line(error)}") from error
    if len(wanted) != len(found) or not sound:
        return Difference(shapes, math.inf, sound)
    return Difference(shapes, max((distance(x, y) for x, y in zip(found, wanted, strict=True)), default=0.0))


def not_sound(shapes: Sequence[Shape]) -> str:
    """What to say where torch's own outputs are not finite."""
    return (
        f"torch's own outputs are not finite on inputs of {shapes_text(shapes)}: the weights are broken, or the example is not "
        "like the model's real inputs"
    )


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

    A batch of one is what most deployments run, so it is one of the sizes. Lengths change together, and one at a time where
    the graph does not run so.
    """
    axes = axes_of(captured)
    lengths = {axis: _other_size(captured, axis) for axis in axes if not axis.is_batch}
    one = {axis: 1 for axis in axes if axis.is_batch}
    kept: dict[tuple[Shape, ...], tuple[Any, ...]] = {}
    notes: list[str] = []
    for sizes in ({}, lengths, one, {**one, **lengths}):
        problem = _kept_if_it_runs(captured, resized(captured, sizes), kept)
        if problem:
            notes.append(problem)
            for axis in lengths if sizes == lengths and len(lengths) > 1 else ():
                _kept_if_it_runs(captured, resized(captured, {axis: lengths[axis]}), kept)
    if len(kept) == 1:
        notes.append(f"{ONE_SIZE}: {shapes_text(next(iter(kept)))}")
    return list(kept.values()), tuple(dict.fromkeys(notes))


def _kept_if_it_runs(
    captured: Captured, inputs: tuple[Any, ...], kept: dict[tuple[Shape, ...], tuple[Any, ...]]
) -> str:
    """Add inputs at which the graph runs; why it does not, else."""
    shapes = shapes_of(inputs)
    try:
        seeded(captured.graph_module, inputs)
    except Exception as error:  # the user's model may refuse a size for its own reasons
        return f"not compared at {shapes_text(shapes)}: the captured graph fails there ({first_line(error)})"
    kept.setdefault(shapes, inputs)
    return ""


def _other_size(captured: Captured, axis: Axis) -> int:
    """A size at which an axis was proved, else the first at which the graph runs."""
    size = extent(captured, axis)
    for other in axis.sizes or candidates(size, axis.is_batch):
        try:
            seeded(captured.graph_module, resized(captured, {axis: other}))
        except Exception:  # as above
            continue
        return other
    return size


def sized_as(captured: Captured, file: OnnxFile) -> Captured:
    """The record with the example at the sizes that an ONNX model fixes, and only its other dimensions dynamic."""
    leaves = pytree.tree_leaves(captured.example_inputs)
    tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    fixed = dict(zip(tensors, file.fixed_sizes, strict=False))
    for axis in axes_of(captured):
        first = extent(captured, axis)
        sizes = [
            size * first // size_at(captured, (index, dim))
            for index, dim in axis.places
            if (size := fixed.get(index, {}).get(dim)) is not None
        ]
        if sizes:
            dynamic = tuple(
                dims - {dim for at, dim in axis.places if at == index} for index, dims in enumerate(captured.dynamic)
            )
            captured = replace(captured, example_inputs=resized(captured, {axis: sizes[0]}), dynamic=dynamic)
    return captured
