"""In-place operators of a captured graph: which memory they write to, and their pure forms."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

SOMETIMES_RETURNS_INPUT = frozenset(
    {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "type_as", "atleast_1d"}
)
"""Operators that may return their input itself (dropout in eval mode), though their schema does not say so."""


def use_pure_forms(graph_module: fx.GraphModule) -> None:
    """``relu_`` becomes ``relu`` where nobody reads the tensor that it writes to, or a view of it, afterwards.

    One pass in the order of the graph: ``seen`` holds for each piece of memory the last reader of what aliases it.
    """
    order = {node: i for i, node in enumerate(graph_module.graph.nodes)}
    memory: dict[fx.Node, fx.Node] = {}
    seen: dict[fx.Node, int] = {}
    for node, place in order.items():
        owner = memory[node.args[0]] if aliases(node) else node
        pure = _pure_form(node)
        if pure is not None and owner.op == "call_function" and seen[owner] <= place:
            node.target, owner = pure, node
        memory[node] = owner
        last = max((order[user] for user in node.users), default=place)
        seen[owner] = max(seen.get(owner, place), last)


def owner_of(value: Any) -> Any:
    """The node whose memory a node may share: itself, or what it is a view of."""
    while isinstance(value, fx.Node) and aliases(value):
        value = value.args[0]
    return value


def aliases(node: fx.Node) -> bool:
    """Whether the result may share memory with the first argument."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    schema = getattr(node.target, "_schema", None)
    shares = schema is not None and any(result.alias_info is not None for result in schema.returns)
    return node.target is operator.getitem or shares or _name(node) in SOMETIMES_RETURNS_INPUT


def mutates(node: fx.Node) -> bool:
    """Whether the node changes its first argument in place."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema and schema.is_mutable and _name(node).endswith("_"))


def _name(node: fx.Node) -> str:
    """The operator's name without its overload: ``relu_``."""
    return str(getattr(node.target, "_opname", ""))


COMPARISONS = frozenset(
    {"eq_", "ne_", "lt_", "le_", "gt_", "ge_", "logical_and_", "logical_or_", "logical_xor_", "logical_not_"}
)
"""In place they keep the number type of their target, their pure forms return truth values."""


def _pure_form(node: fx.Node) -> Any:
    if node.op != "call_function" or not mutates(node) or not isinstance(node.args[0], fx.Node):
        return None
    if _name(node) in COMPARISONS or _promotes(node):
        return None
    packet = getattr(aten, _name(node)[:-1], None)
    return getattr(packet, getattr(node.target, "_overloadname", ""), None) if packet is not None else None


def _promotes(node: fx.Node) -> bool:
    """Whether the pure form could return another number type than that of the tensor written to."""
    values = [source.meta.get("val") for source in node.all_input_nodes]
    target, *others = [value.dtype for value in values if isinstance(value, Tensor)] or [torch.float32]
    return not target.is_floating_point or any(other.is_floating_point and other != target for other in others)
