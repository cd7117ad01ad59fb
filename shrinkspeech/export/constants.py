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
        for inner in bodies_of(node):
            yield from _nested(inner)


def bodies_of(node: Any) -> Iterator[Any]:
    """Graphs inside a node: branches of an ``If``, the body of a ``Loop``."""
    for item in node.attribute:
        yield from [item.g] if item.type == onnx.AttributeProto.GRAPH else item.graphs


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


def weight_elements(model: onnx.ModelProto) -> int:
    """Elements of the floating-point and 8-bit (or smaller) constants that the model holds; of a sparse one those it stores."""
    return sum(math.prod(tensor.dims) for tensor in _constants(model) if tensor.data_type in WEIGHT_TYPES)


def _constants(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initialisers and what ``Constant`` nodes return, as tensors."""
    for body in bodies(model):
        yield from getattr(body, "initializer", ())
        yield from (sparse.values for sparse in getattr(body, "sparse_initializer", ()))
        for node in body.node:
            if node.domain in ("", "ai.onnx") and node.op_type == "Constant":
                yield from (_value(item) for item in node.attribute)


def _value(item: onnx.AttributeProto) -> onnx.TensorProto:
    """The tensor that an attribute of ``Constant`` stands for."""
    if item.type == onnx.AttributeProto.TENSOR:
        return item.t
    if item.type == onnx.AttributeProto.SPARSE_TENSOR:
        return item.sparse_tensor.values
    many = {"value_floats": len(item.floats), "value_float": 1}.get(item.name)
    if many is None:
        return onnx.TensorProto(data_type=onnx.TensorProto.INT64)
    return onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, dims=[many])
