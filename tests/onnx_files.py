"""ONNX files by other hands, for tests: no metadata, and whatever nodes are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def written(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    weights: dict[str, tuple[int, ...]] | None = None,
    opset: int = 20,
    functions: Sequence[Any] = (),
    whole: dict[str, list[Any]] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """An ONNX file by other hands: no metadata; its output is ``y``. ``whole`` are inputs of whole numbers."""
    held = [numpy_helper.from_array(np.full(shape, 0.1, np.float32), name) for name, shape in (weights or {}).items()]
    given = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    given += [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in (whole or {}).items()]
    graph = helper.make_graph(nodes, "graph", given, [helper.make_tensor_value_info("y", FLOAT, None)], held)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10, functions=functions)
    helper.set_model_props(model, metadata or {})
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    return path


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)
