"""Products with the matrix of a Fourier transform, which a budget leaves out as it does transforms by name.

A model may bring its own: windowed kernels of a convolution, as torchlibrosa and conv-STFT have them. The values of the weights
say what they are (``graph/fourier.py``), as they do in an ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.constants import constant_value
from shrinkspeech.graph.fourier import points_of_tensor, transform_cost
from shrinkspeech.graph.modes import is_recurrent


def transform_of(captured: Captured, node: fx.Node, constant: Callable[[fx.Node], bool], flops: float) -> float | None:
    """Operations that fast transforms take in the place of a contraction; None where its weight is none."""
    weights = [x for x in node.all_input_nodes if constant(x) and any(len(s) > 1 for s in captured.shapes[x.name])]
    if len(weights) != 1 or is_recurrent(node.target) or _groups(node) != 1:
        return None
    value = constant_value(captured.graph_module, weights[0])
    points = None if value is None else points_of_tensor(value)
    if value is None or points is None:
        return None
    return flops / (2 * value.numel()) * transform_cost(points)


def _groups(node: fx.Node) -> Any:
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return given.get("groups", 1)
