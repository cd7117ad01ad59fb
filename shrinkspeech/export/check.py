"""Verification of ONNX files: agreement with torch, time, and the limits that ``shrinkspeech check`` enforces."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.defaults import TOLERANCE
from shrinkspeech.errors import ExportError, InputError
from shrinkspeech.export.file_cost import OnnxCost, onnx_flops, parameters
from shrinkspeech.export.onnx_file import (
    Example,
    Shape,
    example_shapes,
    first_line,
    fixed_sizes,
    metadata,
    one_item,
    open_session,
    random_feed,
    read_model,
)
from shrinkspeech.export.timing import feed_of, timing
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
    reference: Captured | Callable[..., Any], onnx_file: str | Path | bytes, inputs_list: Sequence[Sequence[Any]]
) -> tuple[Difference, ...]:
    """Compare an ONNX model (onnxruntime, CPU, one thread) with torch on each of several inputs.

    Raises:
        InputError: onnxruntime cannot load the file.
        ExportError: onnxruntime cannot run it on inputs that torch can run.
    """
    session = open_session(onnx_file)
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


def sized_as(captured: Captured, model: Any) -> Captured:
    """The record with the example at the sizes that an ONNX model fixes, and only its other dimensions dynamic."""
    leaves = pytree.tree_leaves(captured.example_inputs)
    tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    fixed = dict(zip(tensors, fixed_sizes(model), strict=False))
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


@dataclass(frozen=True)
class CheckRow:
    """One thing that was checked.

    Attributes:
        name: what was measured, with its unit.
        measured: the value; infinite where it could not be had.
        limit: the largest value allowed, or None if nothing was asked for.
        note: what to know about the value, or empty.
    """

    name: str
    measured: float
    limit: float | None = None
    note: str = ""
    sound: bool = True
    """Whether the value is whole: a count that leaves operators out meets no limit."""

    @property
    def met(self) -> bool:
        return self.limit is None or (self.sound and self.measured <= self.limit)


@dataclass(frozen=True)
class CheckReport:
    """What ``check`` found, row by row."""

    path: str
    rows: tuple[CheckRow, ...]

    @property
    def met(self) -> bool:
        """Whether every limit is kept."""
        return all(row.met for row in self.rows)


def check(
    path: str | Path,
    *,
    max_flops: float | None = None,
    max_params: float | None = None,
    max_bytes: float | None = None,
    max_latency: float | None = None,
    reference: Captured | None = None,
    tolerance: float = TOLERANCE,
    seconds: float | None = None,
    example: Example | None = None,
    threads: int = 1,
    repeats: int = 20,
) -> CheckReport:
    """Measure an ONNX file against limits.

    Args:
        max_flops: FLOP/s, as counted from the graph; counted anyway where it is known what a second of audio is.
        max_params: elements of its constants.
        max_bytes: size of the file.
        max_latency: time in s to process the example with a batch of one, on ``threads`` threads.
        reference: a model that the file must agree with, within ``tolerance`` (relative), at several sizes.
        seconds: audio that one item of the example holds, in s; needed where the file's metadata does not say it.
        example: shapes of the inputs; needed where neither metadata nor graph say them.

    Raises:
        InputError: the file is not a valid ONNX model, or sizes or seconds are needed and not known.
    """
    model = read_model(path)
    rows = [
        CheckRow("parameters", parameters(model), max_params),
        CheckRow("bytes", Path(path).stat().st_size, max_bytes),
    ]
    if max_flops is not None or seconds is not None or "seconds" in metadata(model):
        rows.insert(0, _cost(onnx_flops(path, seconds, example), max_flops))
    if max_latency is not None:
        rows.append(_latency(model, path, example_shapes(model, example), max_latency, threads, repeats))
    if reference is not None:
        rows += _agreement(path, reference, tolerance)
    return CheckReport(str(path), tuple(rows))


def _cost(cost: OnnxCost, limit: float | None) -> CheckRow:
    missing = ", ".join(f"{count} × {name}" for name, count in cost.uncounted.items())
    return CheckRow("FLOP/s", cost.flops, limit, f"not counted: {missing}" if missing else "", sound=not missing)


def _latency(
    model: Any, path: str | Path, shapes: Mapping[str, Shape], limit: float, threads: int, repeats: int
) -> CheckRow:
    single = one_item(model, shapes)
    measured = timing(path, random_feed(model, single), threads, repeats)
    return CheckRow("latency (s)", measured, limit, f"{shapes_text(list(single.values()))}, {threads} thread(s)")


def _agreement(path: str | Path, reference: Captured, tolerance: float) -> list[CheckRow]:
    """One row for each size at which the file and the reference are compared."""
    rows = []
    for inputs in sizes_to_try(sized_as(reference, read_model(path)))[0]:
        name = f"difference at {shapes_text(shapes_of(inputs))}"
        try:
            [found] = parity(reference, path, [inputs])
            rows.append(CheckRow(name, found.difference, tolerance))
        except (ExportError, InputError) as error:
            rows.append(CheckRow(name, math.inf, tolerance, str(error)))
    return rows
