"""A captured graph is in evaluation mode: what is switched in a program that was exported in training mode, and what is not."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from shrinkspeech.errors import CaptureError
from shrinkspeech.graph.inplace import mutates, owner_of
from shrinkspeech.graph.modes import ALWAYS, FLAGS, NORMS, TrainableGraph, is_recurrent

aten = torch.ops.aten

DECOMPOSED = {
    aten._native_batch_norm_legit_functional.default: 5,
    aten._native_batch_norm_legit.default: 5,
    aten.native_batch_norm.default: 5,
    aten._batch_norm_with_update_functional.default: None,
    aten.native_dropout.default: 2,
}
"""Forms of batch norm and dropout that a decomposition leaves → position of their train flag, where they have one."""


def evaluated(graph_module: TrainableGraph, in_evaluation: bool) -> tuple[str, ...]:
    """Put a captured graph into evaluation mode, in place, and mark what no mode switches.

    Args:
        in_evaluation: whether it is known to have been captured in evaluation mode; else that is read off the graph.

    Returns:
        what the user should know about it, in sentences.

    Raises:
        CaptureError: the graph was exported in training mode and decomposed, which cannot be switched.
    """
    _refuse_decomposed(graph_module.graph)
    on = [node for node in graph_module.graph.nodes if _is_on(node)]
    if not in_evaluation and any(_follows_the_mode(node) for node in on):
        _drop_counters(graph_module.graph)
        graph_module.eval()
        return (
            "the program was exported in training mode: batch norm and dropout are switched to evaluation; whatever else "
            "depended on self.training stays as it was in training",
        )
    for node in on:
        node.meta[ALWAYS] = True
    graph_module.eval()
    return tuple(
        f"{_operator(node)} in {_module(node)} is on in evaluation too, as in the model's code, and stays on"
        for node in on
    )


def _is_on(node: fx.Node) -> bool:
    """Whether an operator that has a mode is in training mode, though it could be in the other."""
    position = FLAGS.get(node.target)
    if position is None or node.args[position] is not True:
        return False
    return node.target not in NORMS or node.args[3] is not None


def _follows_the_mode(node: fx.Node) -> bool:
    """Whether an operator takes its mode from the model: torch's own modules do; a user's call may be on for good."""
    kinds = [str(kind) for _, kind in (node.meta.get("nn_module_stack") or {}).values()]
    return bool(kinds and "torch.nn.modules." in kinds[-1]) or node.target in NORMS or is_recurrent(node.target)


def _drop_counters(graph: fx.Graph) -> None:
    """Batch norm counts its batches in training, and attention drops weights."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and mutates(node):
            owner: Any = owner_of(node.args[0])
            if owner.op == "get_attr" and str(owner.target).endswith("num_batches_tracked") and not node.users:
                graph.erase_node(node)
        elif node.target is aten.scaled_dot_product_attention.default:
            if len(node.args) > 4:
                node.update_arg(4, 0.0)
            if "dropout_p" in node.kwargs:
                node.update_kwarg("dropout_p", 0.0)


def _refuse_decomposed(graph: fx.Graph) -> None:
    for node in graph.nodes:
        position = DECOMPOSED.get(node.target, -1)
        on = position is None or (position > 0 and node.args[position] is True)
        if on and (node.target is aten.native_dropout.default or node.args[3] is not None):
            raise CaptureError(
                f"the program was exported in training mode and decomposed ({node.target} in {_module(node)}): "
                "export model.eval(), or do not run its decompositions"
            )


def _operator(node: fx.Node) -> str:
    return str(node.target).split(".")[1]


def _module(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path.removeprefix("L['self'].") or "model"
