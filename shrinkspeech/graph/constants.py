"""What nodes hold that depend on no input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from shrinkspeech.graph.captured import attribute


def constant_value(module: fx.GraphModule, value: Any) -> Tensor | None:
    """What a node holds if it depends on no input: a window, be it a buffer or made in forward. None for any other."""
    if isinstance(value, fx.Node) and value.op == "get_attr":
        return torch.as_tensor(attribute(module, str(value.target))).detach()
    if not isinstance(value, fx.Node) or value.op != "call_function":
        return None
    inputs = {node: constant_value(module, node) for node in value.all_input_nodes}
    if any(found is None for found in inputs.values()):
        return None
    args, kwargs = fx.map_arg((value.args, value.kwargs), lambda node: inputs[node])
    with torch.no_grad():
        result = value.target(*args, **kwargs)  # type: ignore[operator]
    return result if isinstance(result, Tensor) else None
