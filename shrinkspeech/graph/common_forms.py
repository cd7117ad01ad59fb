"""One form of what torch has several operators for: programs in core ATen, and two results in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from shrinkspeech.graph.regions import replace_results

aten = torch.ops.aten

Results = list[tuple[Any, tuple[Any, ...], dict[str, Any]]]
"""For each result the operator that gives it alone, with its arguments."""


def use_common_forms(graph_module: fx.GraphModule) -> None:
    """Write operators as the common ones that give the same, in place, where nobody reads a result that those do not give."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or node.target not in FORMS:
            continue
        results = FORMS[node.target](node, _arguments(node))
        read = [0] if node.target is aten.convolution.default else [user.args[1] for user in node.users]
        if all(isinstance(index, int) and index < len(results) for index in read):
            _replace(graph_module.graph, node, {index: results[index] for index in read})


def _replace(graph: fx.Graph, node: fx.Node, results: Mapping[int, Any]) -> None:
    made: dict[int, fx.Node] = {}
    values = node.meta.get("val")
    with graph.inserting_before(node):
        for index, (target, args, kwargs) in results.items():
            made[index] = graph.call_function(target, args, kwargs)
            made[index].meta = dict(node.meta)
            if isinstance(values, list | tuple):
                made[index].meta["val"] = values[index]
    if node.target is aten.convolution.default:
        node.replace_all_uses_with(made[0])
        graph.erase_node(node)
    else:
        replace_results(graph, node, made)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Every argument by its name, defaults too."""
    target: Any = node.target
    schema = target._schema.arguments
    given = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    return (
        given | {argument.name: value for argument, value in zip(schema, node.args, strict=False)} | dict(node.kwargs)
    )


def _convolution(node: fx.Node, a: Mapping[str, Any]) -> Results:
    dims = node.meta["val"].dim() - 2
    x = (a["input"], a["weight"], a["bias"], a["stride"], a["padding"])
    if not a["transposed"]:
        plain = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
        return [(plain[dims], (*x, a["dilation"], a["groups"]), {})]
    wide = {1: aten.conv_transpose1d.default, 2: aten.conv_transpose2d.input, 3: aten.conv_transpose3d.input}
    return [(wide[dims], (*x, a["output_padding"], a["groups"], a["dilation"]), {})]


def _batch_norm(_: fx.Node, a: Mapping[str, Any]) -> Results:
    tensors = (a["input"], a["weight"], a["bias"], a["running_mean"], a["running_var"])
    return [(aten.batch_norm.default, (*tensors, False, a["momentum"], a["eps"], False), {})]


def _layer_norm(_: fx.Node, a: Mapping[str, Any]) -> Results:
    return [(aten.layer_norm.default, (a["input"], a["normalized_shape"], a["weight"], a["bias"], a["eps"]), {})]


def _group_norm(_: fx.Node, a: Mapping[str, Any]) -> Results:
    return [(aten.group_norm.default, (a["input"], a["group"], a["weight"], a["bias"], a["eps"]), {})]


def _spread_and_mean(spread: Any) -> Callable[[fx.Node, Mapping[str, Any]], Results]:
    def form(_: fx.Node, a: Mapping[str, Any]) -> Results:
        dims, keepdim = a.get("dim"), a.get("keepdim", False)
        correction = a["correction"] if "correction" in a else int(a["unbiased"])
        mean: Any = (aten.mean.dim, (a["self"], dims, keepdim), {})
        return [(spread, (a["self"], dims), {"correction": correction, "keepdim": keepdim}), mean]

    return form


FORMS: dict[Any, Callable[[fx.Node, Mapping[str, Any]], Results]] = {
    aten.convolution.default: _convolution,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    **dict.fromkeys(
        (aten.var_mean.correction, aten.var_mean.dim, aten.var_mean.default), _spread_and_mean(aten.var.correction)
    ),
    **dict.fromkeys(
        (aten.std_mean.correction, aten.std_mean.dim, aten.std_mean.default), _spread_and_mean(aten.std.correction)
    ),
}
