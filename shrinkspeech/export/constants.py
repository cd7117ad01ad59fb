"""Constants that an ONNX model holds, in its graph, its functions, and the bodies of ``If``, ``Loop`` and ``Scan``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import onnx
from onnx import external_data_helper

WEIGHTS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT4", "UINT4")
WEIGHT_TYPES = frozenset(getattr(onnx.TensorProto, name) for name in WEIGHTS)


def bodies(model: onnx.ModelProto) -> Iterator[Any]:
    """The main graph, the model's functions, and every graph inside a node of theirs."""
    for body in (model.graph, *model.functions):
        yield from _nested(body)


def _nested(body: Any) -> Iterator[Any]:
    yield body
    for node in body.node:
        for item in node.attribute:
            for inner in [item.g] if item.type == onnx.AttributeProto.GRAPH else item.graphs:
                yield from _nested(inner)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every dense tensor: initialisers, and attributes of nodes."""
    for body in bodies(model):
        yield from getattr(body, "initializer", ())
        for node in body.node:
            for item in node.attribute:
                yield from [item.t] if item.type == onnx.AttributeProto.TENSOR else item.tensors


def locations(model: onnx.ModelProto) -> set[str]:
    """Files beside the model that hold its tensors, as it names them."""
    outside = [tensor for tensor in tensors(model) if external_data_helper.uses_external_data(tensor)]
    return {external_data_helper.ExternalDataInfo(tensor).location for tensor in outside}


def parameters(model: onnx.ModelProto) -> int:
    """Elements of the floating-point and 8-bit (or smaller) constants that the file holds."""
    nodes = [node for body in (model.graph, *model.functions) for node in body.node if _is_constant(node)]
    constants = [item.t for node in nodes for item in node.attribute if item.name == "value"]
    held = [*model.graph.initializer, *constants]
    return sum(math.prod(tensor.dims) for tensor in held if tensor.data_type in WEIGHT_TYPES)


def _is_constant(node: Any) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type == "Constant"
