"""Sizes that turned out not to be dynamic: numbers stand where symbols stood."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_symbols, is_concrete_int

from shrinkspeech.graph.captured import Captured, recorded
from shrinkspeech.graph.normalise import PARTED, into_parts, remove_dead
from shrinkspeech.graph.repeats import merge_repeats


def fix_sizes(captured: Captured) -> Captured:
    """Write the sizes of the example where a graph computes sizes from those alone that stay as they are, in place.

    What follows from dynamic sizes too, or from values, stays computed. A size that torch has found to be fixed by itself is a
    number already: where there are no others the record is returned as it is.
    """
    fixed = _fixed(captured)
    if not fixed:
        return captured
    module = captured.graph_module
    for node in list(module.graph.nodes):
        value = node.meta.get("val")
        if node.op != "call_function" or value is None:
            continue
        if node.name in captured.numbers and free_symbols(value) and free_symbols(value) <= fixed:
            _write(node, captured.numbers[node.name])
        elif node.target in PARTED:
            dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
            if all(free_symbols(part.shape[dim]) <= fixed for part in value):
                into_parts(node, [shape[dim] for shape in captured.shapes[node.name]], dim)
    remove_dead(module.graph)
    module.recompile()
    merge_repeats(module)
    return recorded(captured)[0]


def _fixed(captured: Captured) -> set[Any]:
    """The symbols of sizes that stay as in the example."""
    dynamic: set[Any] = set()
    fixed: set[Any] = set()
    nodes = [node for node in captured.graph_module.graph.nodes if node.op == "placeholder"]
    for node, dims in zip(nodes, captured.dynamic, strict=True):
        value = node.meta.get("val")
        for dim, size in enumerate(value.shape if isinstance(value, Tensor) else ()):
            if not is_concrete_int(size):
                (dynamic if dim in dims else fixed).update(free_symbols(size))
    return fixed - dynamic


def _write(node: fx.Node, number: Any) -> None:
    """A number in the place of a node."""
    for user in list(node.users):
        user.args = fx.node.map_arg(user.args, lambda x: number if x is node else x)
        user.kwargs = fx.node.map_arg(user.kwargs, lambda x: number if x is node else x)
    node.graph.erase_node(node)
