"""What an ONNX file costs, counted from its graph: whoever wrote it, and whatever its metadata says.

The sizes of the tensors are read off a run in onnxruntime, so that they are those that really occur.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import inliner

from shrinkspeech.errors import InputError
from shrinkspeech.export.constants import parameters
from shrinkspeech.export.feed import Example, batch_size, example_shapes, random_feed
from shrinkspeech.export.onnx_file import OnnxFile, Shape, first_line, open_session
from shrinkspeech.export.operators import CONTROL, COUNTS, FREE, TRANSFORMS


@dataclass(frozen=True)
class OnnxCost:
    """The cost of an ONNX graph.

    Attributes:
        flops: FLOP/s (2 × multiply-accumulates) of the contractions, for each second of one item's audio.
        nodes: the same for each node that was counted, by node name.
        transforms: FLOP/s of Fourier transforms (5/2 · n · log2 n a frame), which ``flops`` leaves out.
        parameters: elements of the floating-point and 8-bit constants that the file holds.
        bytes: size of the file.
        uncounted: operators that might cost something and are not counted, with how often each occurs.
        shapes: shapes of the inputs that this holds for, by name.
        seconds: audio of one item of them, in s.
    """

    flops: float
    nodes: Mapping[str, float]
    transforms: float
    parameters: int
    bytes: int
    uncounted: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    seconds: float = 1.0


def onnx_flops(file: OnnxFile | str | Path, seconds: float | None = None, example: Example | None = None) -> OnnxCost:
    """Count the operations, parameters and bytes of an ONNX file.

    Args:
        file: the file, or its path.
        seconds: audio that one item of the example batch holds, in s; from the file's metadata if not given.
        example: shapes of the inputs; from the file's metadata if not given, or as fixed in the graph.

    Raises:
        InputError: the file is not ONNX, or neither it nor the arguments say sizes and seconds.
    """
    file = OnnxFile.of(file)
    seconds = _seconds(file, seconds)
    shapes = example_shapes(file, example)
    scale = 1.0 / (seconds * batch_size(file, shapes))
    flat = inliner.inline_local_functions(file.proto)
    named = _named_nodes(flat)
    sizes = _run_for_shapes(flat, named, random_feed(file, shapes))
    counted = {name: COUNTS[node.op_type](node, sizes) * scale for name, node in named.items() if _known(node, COUNTS)}
    return OnnxCost(
        flops=sum(counted.values()),
        nodes=counted,
        transforms=sum(
            TRANSFORMS[node.op_type](node, sizes) * scale for node in named.values() if _known(node, TRANSFORMS)
        ),
        parameters=parameters(file.proto),
        bytes=file.size,
        uncounted=dict(Counter(_uncounted(flat.graph.node))),
        shapes=shapes,
        seconds=seconds,
    )


def _seconds(file: OnnxFile, given: float | None) -> float:
    text = file.metadata.get("seconds") if given is None else str(given)
    if text is None:
        raise InputError(f"{file} does not say how many seconds of audio its example holds: give --seconds")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InputError(f"the seconds of audio in the example must be a number above 0, not '{text}' (--seconds)")
    return seconds


def _named_nodes(model: onnx.ModelProto) -> dict[str, Any]:
    """Nodes of the main graph under unique names."""
    named: dict[str, Any] = {}
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        named[name if name not in named else f"{name}#{index}"] = node
    return named


def _run_for_shapes(
    model: onnx.ModelProto, named: Mapping[str, Any], feed: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, Shape]:
    """Shapes of every tensor that a counted node reads or writes."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes = [node for node in named.values() if _known(node, COUNTS) or _known(node, TRANSFORMS)]
    wanted = {name for node in nodes for name in (*node.input, *node.output) if name}
    shapes = {name: tuple(value.shape) for name, value in feed.items()}
    sizes |= shapes
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    extra = sorted((wanted & made) - present - sizes.keys())
    exposed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in extra)
    session = open_session(exposed, optimise=False)
    names = [value.name for value in session.get_outputs() if value.name in wanted]
    try:
        values = session.run(names, feed) if names else []
    except Exception as error:  # onnxruntime has an exception class for each status code
        raise InputError(f"onnxruntime cannot run the model on {shapes}: {first_line(error)}") from error
    return sizes | {name: tuple(value.shape) for name, value in zip(names, values, strict=True)}


def _known(node: Any, names: Iterable[str]) -> bool:
    """Whether a node is one of the standard's operators with these names."""
    return node.domain in ("", "ai.onnx") and node.op_type in names


def _uncounted(nodes: Iterable[Any], inner: bool = False) -> list[str]:
    """Operators that might cost something: any that is not known, and what stands inside control flow."""
    found: list[str] = []
    for node in nodes:
        if _known(node, CONTROL):
            bodies = [item.g.node for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]
            inside = sorted({name for body in bodies for name in _uncounted(body, inner=True)})
            found += [f"{node.op_type} ({', '.join(inside)})"] if inside else []
        elif not _known(node, FREE) and (inner or not (_known(node, COUNTS) or _known(node, TRANSFORMS))):
            found.append(f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type)
    return found
