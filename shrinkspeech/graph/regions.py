"""Regions of a captured graph, ``no_grad`` and ``autocast``, become part of the graph around them.

torch is asked, operator by operator, what ``autocast`` does to the inputs, and that is written into the graph as casts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

from shrinkspeech.errors import CaptureError
from shrinkspeech.graph.modes import is_recurrent

aten = torch.ops.aten

NO_GRAD = torch.ops.higher_order.wrap_with_set_grad_enabled
AUTOCAST = torch.ops.higher_order.wrap_with_autocast
WITHOUT_GRADIENT = "without gradient"
"""Mark in the ``meta`` of a node that stood in a ``no_grad`` region."""

SKIPPED = {NO_GRAD: 1, AUTOCAST: 4}
"""Region → place of its body among its arguments; what the body reads follows."""


REARRANGE_FIRST = (aten.einsum.default, aten.tensordot.default, aten.inner.default)
"""Contractions that move the elements of their inputs about before they cast: casting them at once comes to the same."""


def inline_regions(graph_module: fx.GraphModule) -> None:
    """``no_grad`` and ``autocast`` regions become part of the graph around them, the latter with casts.

    Raises:
        CaptureError: an operator casts inside itself under ``autocast``.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in SKIPPED:
            continue
        skip = SKIPPED[node.target]
        body = getattr(graph_module, node.args[skip].target)
        if node.target is AUTOCAST and node.args[2]:
            cast_explicitly(body, *node.args[:2])
        inline_regions(body)
        if node.target is NO_GRAD and not node.args[0]:
            for child in body.graph.nodes:
                child.meta.setdefault(WITHOUT_GRADIENT, True)
        elif node.target is NO_GRAD:
            for child in body.graph.nodes:
                child.meta.setdefault(WITHOUT_GRADIENT, False)
        inner = dict(zip((n for n in body.graph.nodes if n.op == "placeholder"), node.args[skip + 1 :], strict=True))
        for child in body.graph.nodes:
            if child.op == "get_attr" and not hasattr(graph_module, str(child.target)):
                setattr(graph_module, str(child.target), getattr(body, str(child.target)))
        with graph.inserting_before(node):
            results = graph.graph_copy(body.graph, inner)
        replace_results(graph, node, results if isinstance(results, list | tuple) else (results,))


def replace_results(graph: fx.Graph, node: fx.Node, results: Any) -> None:
    """Let the readers of a node's results read ``results``, and remove it."""
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)


def cast_explicitly(body: fx.GraphModule, device: str, dtype: torch.dtype) -> None:
    """Write down what ``torch.autocast(device, dtype)`` does to the inputs of every operator of ``body``, in place.

    Raises:
        CaptureError: an operator casts inside itself, where no cast can be written.
    """
    for node in list(body.graph.nodes):
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            casts = _casts(node, lambda: torch.autocast(device, dtype=dtype, cache_enabled=False))
            with body.graph.inserting_before(node):
                cast = {source: _cast(body.graph, source, to) for source, to in casts.items()}
            for source, to in cast.items():
                node.replace_input_with(source, to)


def _cast(graph: fx.Graph, source: fx.Node, dtype: torch.dtype) -> fx.Node:
    node = graph.call_function(aten.to.dtype, (source, dtype))
    node.meta = {key: source.meta[key] for key in ("nn_module_stack", "stack_trace") if key in source.meta}
    node.meta["val"] = source.meta["val"].to(dtype)
    return node


def _casts(node: fx.Node, autocast: Callable[[], Any]) -> dict[fx.Node, torch.dtype]:
    """Inputs of a node that are cast under ``autocast``, with the type to which."""
    if is_recurrent(node.target):
        raise CaptureError(f"{node.target} stands in an autocast region and casts inside itself: {_WAY_OUT}")
    with suppress(Exception), _Casts() as plain:  # types that do not fit fail without autocast
        _call(node)
    with autocast(), _Casts() as found:
        _call(node)
    values = {id(source.meta["val"]): source for source in node.all_input_nodes if "val" in source.meta}
    added = [(where, to) for where, to in found.seen if (where, to) not in plain.seen]
    if node.target in REARRANGE_FIRST and added:
        return {source: added[0][1] for source in node.all_input_nodes if source.meta["val"].is_floating_point()}
    mutated = bool(added) and node.target._schema.is_mutable  # type: ignore[union-attr]
    if mutated or any(where not in values for where, _ in added):
        raise CaptureError(f"{node.target} stands in an autocast region and casts inside itself: {_WAY_OUT}")
    return {values[where]: to for where, to in added}


_WAY_OUT = (
    "leave it out of the region (torch.autocast(..., enabled=False) around it), or give the model without autocast"
)


def _call(node: fx.Node) -> Any:
    """Run an operator on the shapes and types that the graph knows."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: source.meta["val"])
    target: Any = node.target
    return target(*args, **kwargs)


class _Casts(TorchDispatchMode):
    """Writes down which tensors are cast to which type."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, torch.dtype]] = []
        self.alive: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        to = (kwargs or {}).get("dtype")
        if func is aten._to_copy.default and to is not None and args[0].is_floating_point():
            self.seen.append((id(args[0]), to))
            self.alive.append(args[0])  # an object that lives keeps its id
        return func(*args, **(kwargs or {}))
