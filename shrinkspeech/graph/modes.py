"""The train/eval switch of a captured graph: which argument of which operator says so, and where tensors are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import fx
from torch._ops import OpOverload

aten = torch.ops.aten

RECURRENT = (aten.gru.input, aten.lstm.input, aten.rnn_tanh.input, aten.rnn_relu.input)

FLAGS: dict[Any, int] = {
    aten.batch_norm.default: 5,
    aten.instance_norm.default: 5,
    aten.dropout.default: 2,
    aten.dropout_.default: 2,
    aten.feature_dropout.default: 2,
    aten.feature_dropout_.default: 2,
    aten.alpha_dropout.default: 2,
    aten.feature_alpha_dropout.default: 2,
    aten.rrelu.default: 3,
    **dict.fromkeys(RECURRENT, 6),
}
"""Operator → position of its train flag."""


NORMS = (aten.batch_norm.default, aten.instance_norm.default)

ALWAYS = "always"
"""Mark in a node's ``meta``: the model's code does not let the mode switch this operator, so that it stays as it is."""


def is_recurrent(target: Any) -> bool:
    """Whether an operator is a (padded) recurrent layer."""
    return target in RECURRENT


class TrainableGraph(fx.GraphModule):
    """A captured graph whose ``train()`` and ``eval()`` work, and whose new tensors are made on its own device."""

    def train(self, mode: bool = True) -> TrainableGraph:
        super().train(mode)
        changed = False
        for node in self.graph.nodes:
            position = FLAGS.get(operator_of(node))
            if position is not None and ALWAYS not in node.meta and node.args[position] is not _flag(node, mode):
                node.update_arg(position, _flag(node, mode))
                changed = True
        if changed:
            self.recompile()
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        device = next((tensor.device for tensor in (*self.parameters(), *self.buffers())), None)
        changed = False
        for node in self.graph.nodes:
            if device is not None and node.op == "call_function" and node.kwargs.get("device") not in (None, device):
                node.kwargs = {**node.kwargs, "device": device}
                changed = True
        if changed:
            self.recompile()
        return result


def operator_of(node: Any) -> Any:
    """The operator that a node stands for, also where a masked form has taken its place."""
    return node.meta.get("operator", node.target)


def _flag(node: fx.Node, mode: bool) -> bool:
    """A norm without running statistics always uses those of the batch."""
    if operator_of(node) in NORMS and node.args[3] is None:
        return True
    return mode


def trainable(graph_module: fx.GraphModule) -> TrainableGraph:
    """A ``TrainableGraph`` over the same parameters and a copy of the graph."""
    graph = fx.Graph(tracer_cls=graph_module.graph._tracer_cls)
    output = graph.graph_copy(graph_module.graph, {}, return_output_node=True)
    pair: Any = output
    value, source = pair
    node = graph.output(value)
    node.meta = dict(source.meta)
    graph.set_codegen(graph_module.graph._codegen)
    for old, new in zip(graph_module.graph.nodes, graph.nodes, strict=True):
        new.name, new.meta = old.name, dict(old.meta)
        _name_flag(new)
    return TrainableGraph(graph_module, graph)


def _name_flag(node: fx.Node) -> None:
    """Write a train flag that the graph leaves to its default, or gives by name, among the arguments."""
    position = FLAGS.get(node.target)
    if position is not None and len(node.args) <= position:
        kwargs, operator = dict(node.kwargs), cast(OpOverload, node.target)
        left_out = operator._schema.arguments[len(node.args) : position + 1]
        node.args = (*node.args, *(kwargs.pop(item.name, item.default_value) for item in left_out))
        node.kwargs = kwargs
