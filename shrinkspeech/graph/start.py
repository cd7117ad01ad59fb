"""A streaming model that starts from zero states by itself: what a fit trains, and the way back.

State inputs become tensors of zeros in the graph, as wide as the labels say, so that whoever trains, folds, scores or measures
it gives it the signal alone. What it returns stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from operator import floordiv, mul
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Axis, Captured, with_shapes
from shrinkspeech.graph.names import placeholders
from shrinkspeech.graph.normalise import remove_dead
from shrinkspeech.graph.sizes import axes_of, size_at
from shrinkspeech.graph.states import STATE, state_nodes

aten = torch.ops.aten

GONE = object()
"""Stands for a state among nested inputs until it is taken out."""


def started(captured: Captured) -> Captured:
    """The record without state inputs: every call starts from zeros. The record itself where it has no states."""
    if not captured.states or captured.started:
        return captured
    module = captured.copy()
    graph, nodes = module.graph, placeholders(module)
    inner = {state.input: state.source for state in captured.states}
    leaves = pytree.tree_leaves(captured.example_inputs)
    signal = next(i for i, x in enumerate(leaves) if i not in inner and isinstance(x, Tensor) and x.is_floating_point())
    after = nodes[-1].next
    for index, source in inner.items():
        with graph.inserting_before(after):
            sizes = [_size(captured, graph, nodes, (index, dim)) for dim in range(leaves[index].dim())]
            kind = {} if leaves[index].dtype == leaves[signal].dtype else {"dtype": leaves[index].dtype}
            zeros = graph.call_function(aten.new_zeros.default, (nodes[signal], sizes), kind)
        _replace(nodes[index], zeros)
        zeros.meta = {STATE: source}
    arguments = without_states(captured.example_inputs, inner.keys())
    _, spec = pytree.tree_flatten((arguments, {}))
    info = graph._codegen.pytree_info  # type: ignore[attr-defined]
    numbered = pytree.tree_unflatten(range(len(leaves)), pytree.tree_structure(captured.example_inputs))
    kept = [i for i, argument in enumerate(numbered) if not set(pytree.tree_leaves(argument)) <= inner.keys()]
    graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo([info.orig_args[i] for i in kept], spec, info.out_spec)))
    module.recompile()
    moved = [i for i in range(len(leaves)) if i not in inner]
    axes = [replace(x, places=tuple((moved.index(i), d) for i, d in x.places if i not in inner)) for x in captured.axes]
    return with_shapes(
        replace(
            captured,
            graph_module=module,
            example_inputs=arguments,
            dynamic=tuple(captured.dynamic[i] for i in moved),
            axes=tuple(axis for axis in axes if axis.places),
            started=True,
        )
    )


def resumed(captured: Captured, original: Captured) -> Captured:
    """The record with its states as inputs again, at the sizes that they have now.

    Args:
        original: what ``started`` was given.
    """
    if not captured.started:
        return captured
    module = captured.copy()
    graph, old = module.graph, placeholders(original.graph_module)
    sources = {state.input: node for state, (node, _) in state_nodes(replace(captured, graph_module=module))}
    leaves, spec = pytree.tree_flatten(original.example_inputs)
    rest, last = iter(placeholders(module)), None
    for index in range(len(leaves)):
        if index not in sources:
            last = next(rest)
            continue
        zeros = sources[index]
        with graph.inserting_before(next(iter(graph.nodes))) if last is None else graph.inserting_after(last):
            node = last = graph.placeholder(str(old[index].target))
        leaves[index] = leaves[index].new_zeros(captured.shapes[zeros.name][0])
        _replace(zeros, node)
    remove_dead(graph)
    graph.set_codegen(original.graph_module.graph._codegen)
    module.recompile()
    again = replace(
        original,
        graph_module=module,
        example_inputs=tuple(pytree.tree_unflatten(leaves, spec)),
        notes=captured.notes,
    )
    return with_shapes(again)


def without_states(arguments: Sequence[Any], inner: Set[int]) -> tuple[Any, ...]:
    """Nested arguments without the leaves at some places, and without containers that hold nothing else."""
    leaves, spec = pytree.tree_flatten(tuple(arguments))
    marked = pytree.tree_unflatten([GONE if i in inner else x for i, x in enumerate(leaves)], spec)
    return tuple(x for x in map(_cleared, marked) if x is not GONE)


def _cleared(value: Any) -> Any:
    """A nest without what is gone; gone itself where nothing else was in it."""
    if isinstance(value, dict):
        kept = {key: x for key, item in value.items() if (x := _cleared(item)) is not GONE}
        return kept if kept or not value else GONE
    if isinstance(value, tuple | list):
        items = [x for item in value if (x := _cleared(item)) is not GONE]
        return type(value)(items) if items or not value else GONE
    return value


def _size(captured: Captured, graph: fx.Graph, nodes: Sequence[fx.Node], place: tuple[int, int]) -> Any:
    """A size of a state: a number, or what the batch of the signal says."""
    own = size_at(captured, place)
    inner = {state.input for state in captured.states}
    axis = next((axis for axis in axes_of(captured) if place in axis.places), Axis(()))
    like = next((other for other in axis.places if other[0] not in inner), None)
    if like is None:
        return own
    size, items = graph.call_function(aten.sym_size.int, (nodes[like[0]], like[1])), size_at(captured, like)
    if own != items:
        size = graph.call_function(mul, (size, own))
        size = graph.call_function(floordiv, (size, items))
    return size


def _replace(old: fx.Node, new: fx.Node) -> None:
    """Put a node in the place of another, under its name."""
    old.replace_all_uses_with(new)
    name = old.name
    old.graph.erase_node(old)
    new.name = name
