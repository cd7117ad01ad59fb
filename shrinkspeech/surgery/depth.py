"""Depth from width: a branch whose group has width 0 disappears from the graph.

Where a group of width 0 is read, the contraction returns what it returns for an input of zeros: its bias, the same at
every place. That constant takes the place of the node; what depends on constants alone (a batch norm of the bias) is
computed once; adding a constant of zeros is dropped; what nobody reads any more is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from shrinkspeech.axes.algebra import labels_of
from shrinkspeech.errors import SliceError
from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.graph.modes import FLAGS, operator_of
from shrinkspeech.graph.normalise import remove_dead
from shrinkspeech.graph.states import state_nodes
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Effect

aten = torch.ops.aten

CONSTANT = "_constant"
"""How the name of a tensor ends that has taken the place of a node."""

ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)


def remove_branches(
    module: fx.GraphModule, captured: Captured, groups: Groups, kept: Mapping[str, Sequence[int]]
) -> None:
    """Take what a width of 0 makes constant out of a graph whose parameters are sliced already, in place.

    Raises:
        SliceError: a group of width 0 is read by something else than a contraction with constant weights.
    """
    gone = {name for name, units in kept.items() if not len(units)}
    if not gone:
        return
    originals = {node.name: node for node in captured.graph_module.graph.nodes}
    widths = {name: len(units) for name, units in kept.items()}
    fresh: dict[fx.Node, tuple[int, ...]] = {}
    for node in list(module.graph.nodes):
        effect = groups.effects.get(node.name)
        if effect is not None and _reads(effect, groups, gone):
            value = _at_zero(originals[node.name], captured, groups, gone, kept)
            shape = tuple(groups.size_of(axis, widths) for axis in groups.axes[node.name][0])
            fresh[_put_constant(module, node, value)] = shape
    _propagate(module, captured, fresh)
    _drop_zero_additions(module)
    remove_dead(module.graph)
    _drop_empty(module)
    module.recompile()


Slicer = Callable[[Captured, Groups, Mapping[str, list[int]]], object]
"""Removes units physically, and raises ``SliceError`` where the graph does not run without them."""


def removable(captured: Captured, groups: Groups, slicer: Slicer) -> tuple[str, ...]:
    """Groups that may have width 0: ``slicer`` took each away on its own, and the graph ran with the sizes it should have."""
    found, states = (
        [],
        {
            name
            for _, (node, _) in state_nodes(captured)
            for a in groups.axes[node.name][0]
            for name in _names(a, groups)
        },
    )
    for group in groups.shrinkable:
        if group.name in states:  # it would leave an input and an output of no elements
            continue
        try:
            slicer(captured, allow_empty(groups, [group.name]), {group.name: []})
            found.append(group.name)
        except SliceError:
            continue
    return tuple(found)


def allow_empty(groups: Groups, names: Iterable[str]) -> Groups:
    """The same groups, those named with a smallest width of 0."""
    chosen = set(names)
    changed = {name: replace(group, min_width=0) if name in chosen else group for name, group in groups.by_name.items()}
    return replace(groups, by_name=changed)


def _names(axis: Any, groups: Groups) -> set[str]:
    return {groups.of(label).name for label in labels_of(axis)}


def _reads(effect: Effect, groups: Groups, gone: set[str]) -> bool:
    """Whether the node reads a group that is gone and itself stays; one that returns such a group goes with it."""
    if any(_names(axis, groups) & gone for axes in effect.outputs for axis in axes):
        return False
    masked = () if effect.masked is None else effect.masked.axes
    if any(_names(axis, groups) & gone for axis in masked):
        raise SliceError("a group of width 0 is read by an operator that needs at least one unit")
    return any(_names(read.axis, groups) & gone for read in effect.reads)


def _at_zero(
    node: fx.Node, captured: Captured, groups: Groups, gone: set[str], kept: Mapping[str, Sequence[int]]
) -> Tensor:
    """The node's result for an input of zeros, one element along every axis on which it does not change."""
    effect = groups.effects[node.name]
    zero = {read.node.name for read in effect.reads if _names(read.axis, groups) & gone}

    def value(source: fx.Node) -> Any:
        if source.name in zero:
            return torch.zeros(captured.shapes[source.name][0])
        if source.op == "get_attr":
            return attribute(captured.graph_module, str(source.target)).detach()
        raise SliceError(
            f"{node.name} ({captured.where(node)}) reads a group of width 0 together with something computed"
        )

    arguments, options = fx.map_arg((node.args, node.kwargs), value)
    result = node.target(*arguments, **options)  # type: ignore[operator]
    if not isinstance(result, Tensor):
        raise SliceError(
            f"{node.name} ({captured.where(node)}) returns several tensors and cannot have an input of width 0"
        )
    for dim, axis in enumerate(groups.axes[node.name][0]):
        result = result.index_select(dim, torch.tensor(groups.kept_index(axis, kept)))
    return _collapsed(result)


def _put_constant(module: fx.GraphModule, node: fx.Node, value: Tensor) -> fx.Node:
    name = f"{node.name}{CONSTANT}"
    module.register_buffer(name, value.clone())
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(name)
    constant.meta = dict(node.meta)
    node.replace_all_uses_with(constant)
    module.graph.erase_node(node)
    return constant


def _propagate(module: fx.GraphModule, captured: Captured, fresh: dict[fx.Node, tuple[int, ...]]) -> None:
    """Compute what depends on new constants and parameters alone.

    Args:
        fresh: the new constants, each with the shape that the tensor in its place has for the example inputs.
    """

    def value(source: fx.Node) -> Any:
        if source.op == "get_attr":
            tensor = attribute(module, str(source.target)).detach()
            return tensor.expand(fresh[source]) if source in fresh else tensor
        return captured.numbers[source.name]

    for node in list(module.graph.nodes):
        sources = node.all_input_nodes
        if node.op != "call_function" or not fresh.keys() & set(sources):
            continue
        if not all(source.op == "get_attr" or source.name in captured.numbers for source in sources):
            continue
        arguments, options = fx.map_arg((node.args, node.kwargs), value)
        if (flag := FLAGS.get(operator_of(node))) is not None:
            arguments = (*arguments[:flag], False, *arguments[flag + 1 :])
        try:
            result = node.target(*arguments, **options)
        except Exception as error:
            raise SliceError(f"{node.name} cannot be computed from a branch of width 0: {error}") from error
        if isinstance(result, Tensor):
            fresh[_put_constant(module, node, _collapsed(result))] = tuple(result.shape)


def _collapsed(value: Tensor) -> Tensor:
    """One element along every axis on which a tensor does not change."""
    for dim in range(value.dim()):
        first = value.narrow(dim, 0, 1)
        value = first if torch.equal(first.expand_as(value), value) else value
    return value


def _drop_zero_additions(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in ADDITIONS or node.kwargs:
            continue
        first, second = node.args
        for constant, other in ((first, second), (second, first)):
            if _is_zero(module, constant) and isinstance(other, fx.Node) and other.op != "get_attr":
                node.replace_all_uses_with(other)
                module.graph.erase_node(node)
                break


def _is_zero(module: nn.Module, node: Any) -> bool:
    if not isinstance(node, fx.Node) or node.op != "get_attr" or not str(node.target).endswith(CONSTANT):
        return False
    return not bool(attribute(module, str(node.target)).any())


def _drop_empty(module: fx.GraphModule) -> None:
    """Forget parameters and buffers that no node reads and that have no element or belong to a removed branch."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, tensor in list(module.state_dict(keep_vars=True).items()):
        if name not in used and (not tensor.numel() or name.endswith(CONSTANT)):
            parent, _, leaf = name.rpartition(".")
            delattr(attribute(module, parent) if parent else module, leaf)
