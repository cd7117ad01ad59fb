"""Operations of an ONNX graph in one run: the sizes of the tensors are those that really occur, read off onnxruntime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import inliner

from shrinkspeech.export.constants import bodies_of
from shrinkspeech.export.feed import Array
from shrinkspeech.export.onnx_file import OnnxFile, Shape, open_session, run
from shrinkspeech.export.operator_costs import CONTROL, COUNTS, FREE, TRANSFORMS, attribute
from shrinkspeech.graph.fourier import points_of, transform_cost

MATRICES = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
"""Products that may be a transform."""


@dataclass(frozen=True)
class Operations:
    """What one run takes.

    Attributes:
        nodes: operations (2 × multiply-accumulates) of each contraction, by node name.
        transforms: operations of Fourier transforms.
        uncounted: operators that might cost something and are not counted, with how often each occurs.
    """

    nodes: Mapping[str, float]
    transforms: float
    uncounted: Mapping[str, int]

    @property
    def total(self) -> float:
        """Operations of all contractions."""
        return sum(self.nodes.values())


def operations(file: OnnxFile, arrays: Mapping[str, Array]) -> Operations:
    """Count a run on the given inputs.

    Raises:
        InputError: onnxruntime cannot run the model on them.
    """
    flat = inliner.inline_local_functions(file.proto)
    named = _named_nodes(flat)
    sizes = _run_for_shapes(flat, named, arrays)
    counted = {name: node for name, node in named.items() if _known(node, COUNTS)}
    constants = _constants(flat)
    spectra = {name: _transforms(constants, node, sizes) for name, node in counted.items()}
    own = sum(TRANSFORMS[node.op_type](node, sizes) for node in named.values() if _known(node, TRANSFORMS))
    return Operations(
        {name: COUNTS[node.op_type](node, sizes) for name, node in counted.items() if spectra[name] is None},
        own + sum(filter(None, spectra.values())),
        dict(Counter(_uncounted(flat.graph.node))),
    )


def _transforms(constants: Mapping[str, Any], node: Any, sizes: Mapping[str, Shape]) -> float | None:
    """Operations of a product with the matrix of a Fourier transform, as a fast one has them; None for any other.

    Whoever wrote the file: what the weights are their values say.
    """
    tensors = [constants[name] for name in node.input[:2] if name in constants]
    if node.op_type not in MATRICES or attribute(node, "group", 1) != 1 or len(tensors) != 1:
        return None
    points = points_of(onnx.numpy_helper.to_array(tensors[0]))
    if points is None:
        return None
    return COUNTS[node.op_type](node, sizes) / (2 * math.prod(tensors[0].dims)) * transform_cost(points)


def _constants(model: onnx.ModelProto) -> dict[str, Any]:
    """Initialisers, and what nodes return that are constants."""
    given = {x.name: x for x in model.graph.initializer}
    nodes = [node for node in model.graph.node if _known(node, ("Constant",))]
    made = {node.output[0]: item.t for node in nodes for item in node.attribute if item.name == "value"}
    return given | made


def _named_nodes(model: onnx.ModelProto) -> dict[str, Any]:
    """Nodes of the main graph under unique names."""
    named: dict[str, Any] = {}
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        named[name if name not in named else f"{name}#{index}"] = node
    return named


def _run_for_shapes(model: onnx.ModelProto, named: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Shape]:
    """Shapes of every tensor that a counted node reads or writes."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes = [node for node in named.values() if _known(node, COUNTS) or _known(node, TRANSFORMS)]
    wanted = {name for node in nodes for name in (*node.input, *node.output) if name}
    shapes = {name: tuple(value.shape) for name, value in arrays.items()}
    sizes |= shapes
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    extra = sorted((wanted & made) - present - sizes.keys())
    exposed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in extra)
    session = open_session(exposed, optimise=False)
    names = [value.name for value in session.get_outputs() if value.name in wanted]
    values = run(session, arrays, names) if names else []
    return sizes | {name: tuple(value.shape) for name, value in zip(names, values, strict=True)}


def _known(node: Any, names: Iterable[str]) -> bool:
    """Whether a node is one of the standard's operators with these names."""
    return node.domain in ("", "ai.onnx") and node.op_type in names


def _uncounted(nodes: Iterable[Any], inner: bool = False) -> list[str]:
    """Operators that might cost something: any that is not known, and what stands inside control flow."""
    found: list[str] = []
    for node in nodes:
        if _known(node, CONTROL):
            inside = sorted({name for body in bodies_of(node) for name in _uncounted(body.node, inner=True)})
            found += [f"{node.op_type} ({', '.join(inside)})"] if inside else []
        elif not _known(node, FREE) and (inner or not (_known(node, COUNTS) or _known(node, TRANSFORMS))):
            found.append(f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type)
    return found
