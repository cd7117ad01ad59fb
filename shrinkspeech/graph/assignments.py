"""Assignments of a captured graph, ``x[…] = y``, in forms that have a derivative and a rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

aten = torch.ops.aten


def write_assignments(graph_module: fx.GraphModule) -> None:
    """``copy``, which torch cannot differentiate, becomes ``clone`` of what is written, in the shape and type of the place;
    an assignment of one value under a mask becomes ``where``."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        with graph_module.graph.inserting_before(node):
            if node.target is aten.copy.default:
                _clone(node)
            elif node.target is aten.index_put.default and _is_masked(node):
                _choose(node)


def _clone(node: fx.Node) -> None:
    place, value = node.args[0], node.args[1]
    wanted, given = _value(place), _value(value)
    if not _same(wanted.shape, given.shape):
        value = _call(node, aten.expand_as.default, (value, place), given.expand(wanted.shape))
    if wanted.dtype != given.dtype:
        value = _call(node, aten.to.dtype, (value, wanted.dtype), node.meta["val"])
    node.target, node.args, node.kwargs = aten.clone.default, (value,), {}


def _is_masked(node: fx.Node) -> bool:
    """Whether it writes one value where one mask over the first axes says so."""
    positions, value, added = node.args[1], node.args[2], (*node.args[3:], node.kwargs.get("accumulate", False))[0]
    return (
        isinstance(positions, list | tuple)
        and isinstance(positions[0], fx.Node)
        and all(other is None for other in positions[1:])
        and _value(positions[0]).dtype is torch.bool
        and _value(value).dim() == 0
        and not added
    )


def _choose(node: fx.Node) -> None:
    source, positions, value, *_ = node.args
    mask: Any = positions[0]  # type: ignore[index]
    for _ in range(_value(source).dim() - _value(mask).dim()):
        mask = _call(node, aten.unsqueeze.default, (mask, -1), _value(mask).unsqueeze(-1))
    node.target, node.args, node.kwargs = aten.where.self, (mask, value, source), {}


def _call(node: fx.Node, target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
    """A node at the place of ``node``, just before it."""
    new = node.graph.call_function(target, args)
    new.meta = {**node.meta, "val": value}
    return new


def _value(node: Any) -> Tensor:
    value: Tensor = node.meta["val"]
    return value


def _same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(statically_known_true(x == y) for x, y in zip(a, b, strict=True))
