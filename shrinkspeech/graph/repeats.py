"""What a model computes twice from its input is computed once, as ONNX exporters have it.

Without this a graph counts, gates and trains each copy apart, and costs more than the file that is exported from it.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

SIZES = (aten.sym_size.int, aten.sym_numel.default)


def merge_repeats(graph_module: fx.GraphModule) -> None:
    """Nodes of one operator and the same arguments become the first of them, in place.

    Only sizes, and what follows from the values of an input, are merged: zeros that two layers start from would tie their
    widths. Where a tensor is written to, nothing is merged, for two nodes that hold the same values may then part. A batch
    norm that is called twice on one batch moves its running statistics once.
    """
    graph = graph_module.graph
    if any(schema.is_mutable for node in graph.nodes if (schema := getattr(node.target, "_schema", None))):
        return
    first: dict[Any, fx.Node] = {}
    follows = {node for node in graph.nodes if node.op == "placeholder"}
    for node in list(graph.nodes):
        size = node.target in SIZES or _arithmetic(node)
        if node.op != "call_function" or not (size or _computes(node, follows)):
            continue
        if not size:
            follows.add(node)
        if not _repeatable(node):
            continue
        same = first.setdefault((node.target, _key(node.args), _key(node.kwargs)), node)
        if same is not node:
            node.replace_all_uses_with(same)
            graph.erase_node(node)
    graph_module.recompile()


def _computes(node: fx.Node, follows: set[fx.Node]) -> bool:
    """Whether a node's values are computed from those of others: ``new_zeros`` takes no more than a device from its tensor."""
    name = str(getattr(node.target, "_opname", ""))
    return not follows.isdisjoint(node.all_input_nodes) and not name.startswith("new_")


def _arithmetic(node: fx.Node) -> bool:
    """Whether a node calculates with sizes."""
    return getattr(node.target, "__module__", None) == operator.add.__module__ and node.target is not operator.getitem


def _repeatable(node: fx.Node) -> bool:
    """Whether a second run of the node gives the same values: an operator of torch that draws no random numbers."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return target is operator.getitem or _arithmetic(node)
    if target.namespace != "aten":
        return False
    if torch.Tag.nondeterministic_seeded not in target.tags:
        return True
    given = {argument.name: argument.default_value for argument in target._schema.arguments}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    return given.get("dropout", given.get("dropout_p")) == 0.0  # recurrent layers, attention


def _key(value: Any) -> Any:
    """Arguments as something to compare by; ``1``, ``1.0`` and ``True`` differ, for results have other types."""
    if isinstance(value, fx.Node):
        return value
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, _key(item)) for name, item in value.items())
    return type(value), repr(value)
