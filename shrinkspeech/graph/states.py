"""States of a captured graph: where they come in and go out, their sizes, and what they hold at the start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Axis, Captured, State, with_shapes
from shrinkspeech.graph.inplace import aliases, mutates, owner_of
from shrinkspeech.graph.names import output_leaves, placeholders
from shrinkspeech.graph.sizes import size_at

aten = torch.ops.aten

STATE = "state"
"""Mark in a node's ``meta``: it makes the zeros from which the state of that name starts."""


def without_state_axes(captured: Captured) -> tuple[frozenset[int], ...]:
    """The dynamic dimensions without those of states, whose sizes are the model's own, but for the batch and what grows."""
    nodes, inner = placeholders(captured.graph_module), {state.input: state.grows for state in captured.states}
    values = [node.meta.get("val") for node in nodes]
    outer = [x for i, x in enumerate(values) if i not in inner and isinstance(x, Tensor) and x.dim()]
    batch = {symbol for x in outer for symbol in _symbols(x.shape[0])}
    items = captured.batch

    def kept(index: int, dims: frozenset[int]) -> frozenset[int]:
        value = values[index]
        if index not in inner or not isinstance(value, Tensor):
            return dims
        tied = frozenset(dim for dim in dims if _symbols(value.shape[dim]) & batch)
        sizes = captured.shapes[nodes[index].name][0]
        return (tied or frozenset(dim for dim in dims if sizes[dim] == items)) | (dims & {inner[index]})

    return tuple(kept(index, dims) for index, dims in enumerate(captured.dynamic))


def _symbols(size: Any) -> set[str]:
    return set(re.findall(r"[a-z]\w*", str(size)))


def state_nodes(captured: Captured) -> list[tuple[State, tuple[fx.Node, fx.Node]]]:
    """Each state with two nodes: where it comes in, or starts from zeros in a graph that does so, and what goes out."""
    if not captured.states:
        return []
    leaves = output_leaves(captured.graph_module)
    nodes = {
        str(node.target) if node.op == "placeholder" else node.meta.get(STATE): node
        for node in captured.graph_module.graph.nodes
    }
    return [(state, (nodes[state.source], leaves[state.output][1])) for state in captured.states]


def is_input(captured: Captured, axis: Axis) -> bool:
    """Whether an axis is one of more than states alone, whose sizes are the model's own, but for a cache that grows."""
    grown = {state.input: state.grows for state in captured.states}
    return any(index not in grown or grown[index] == dim for index, dim in axis.places)


def caches_as_one(captured: Captured, axes: Sequence[Axis]) -> list[Axis]:
    """Caches of one length grow together: attention does not look whether keys and values are as many."""
    growing = {(state.input, state.grows) for state in captured.states}
    alone = [axis for axis in axes if set(axis.places) <= growing]
    by_size: dict[int, list[tuple[int, int]]] = {}
    for axis in alone:
        by_size.setdefault(size_at(captured, axis.places[0]), []).extend(axis.places)
    return [*(axis for axis in axes if axis not in alone), *(Axis(tuple(places)) for places in by_size.values())]


def batch_dims(captured: Captured, state: State, node: fx.Node) -> frozenset[int]:
    """Dimensions of a state, where it comes in or is made, whose size the batch says."""
    if node.op == "placeholder":
        return captured.dynamic[state.input] - {state.grows}
    return frozenset(dim for dim, size in enumerate(node.args[1]) if isinstance(size, fx.Node))  # type: ignore[arg-type]


def own_states(captured: Captured) -> Captured:
    """The record with a copy of each state that the model writes into: the copy is given back, what came in stays as it was.

    What is read of the copy is copied once more: backward passes keep what a recurrent layer started from, and torch refuses
    to go back through it once its memory is written to.
    """
    module, inner = captured.graph_module, {state.input for state in captured.states}
    written = {owner_of(node.args[0]) for node in module.graph.nodes if node.op == "call_function" and mutates(node)}
    changed = [node for i, node in enumerate(placeholders(module)) if i in inner and node in written]
    for node in changed:
        with module.graph.inserting_before(placeholders(module)[-1].next):
            copied = module.graph.call_function(aten.clone.default, (node,))
        copied.meta = dict(node.meta)
        for user in [user for user in node.users if user is not copied]:
            user.replace_input_with(node, copied)
        _copy_reads(module, copied)
    if changed:
        module.recompile()
    return with_shapes(captured) if changed else captured


def _copy_reads(module: fx.GraphModule, owner: fx.Node) -> None:
    """A copy before every node that computes with a tensor or a view of it."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node is owner or mutates(node) or aliases(node):
            continue
        for source in [source for source in node.all_input_nodes if owner_of(source) is owner]:
            with module.graph.inserting_before(node):
                read = module.graph.call_function(aten.clone.default, (source,))
            read.meta = dict(source.meta)
            node.replace_input_with(source, read)


def not_at_rest(captured: Captured) -> tuple[str, ...]:
    """Notes on states that are not zero in the example."""
    leaves = pytree.tree_leaves(captured.example_inputs)
    return tuple(
        f"the state '{state.source}' is not zero in the example: fits and comparisons start from zeros all the same"
        for state in captured.states
        if bool(leaves[state.input].any())
    )


def at_rest(captured: Captured) -> Captured:
    """The record with zeros for states in the example."""
    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    inner = {state.input for state in captured.states}
    zeros = [torch.zeros_like(x) if i in inner else x for i, x in enumerate(leaves)]
    return replace(captured, example_inputs=tuple(pytree.tree_unflatten(zeros, spec)))
