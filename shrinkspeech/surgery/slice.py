"""Slicing: captured graph + groups + integer widths → a smaller captured graph.

Every parameter, buffer and constant is indexed by its axes, and the integer literals that the rules named are
rewritten. Nothing is run before the sizes that the labels promise have been compared with what each node returns.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from shrinkspeech.errors import SliceError
from shrinkspeech.graph.captured import Captured, attribute, set_attribute
from shrinkspeech.graph.copies import refuse_outdated
from shrinkspeech.graph.modes import trainable
from shrinkspeech.graph.state import undisturbed
from shrinkspeech.graph.states import state_nodes
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Literal
from shrinkspeech.surgery.depth import remove_branches


def slice(captured: Captured, groups: Groups, widths: Mapping[str, int | Sequence[int]]) -> Captured:
    """Remove units physically.

    Args:
        widths: for each group to shrink the number of units to keep (its first ones), or the units themselves.

    Returns:
        A captured graph of its own; ``captured`` is left as it was.

    Raises:
        SliceError: a group may not shrink, a unit does not exist, or the sliced graph does not run.
    """
    refuse_outdated(captured.graph_module)
    kept = {name: _units(groups, name, value) for name, value in widths.items()}
    module = trainable(captured.graph_module).eval()
    _slice_parameters(module, groups, kept)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            continue
        for literal in groups.effects[node.name].literals if node.name in groups.effects else ():
            _rewrite(node, literal, groups, kept)
        node.meta.pop("val", None)
    remove_branches(module, captured, groups, kept)
    module.recompile()
    sliced = replace(captured, graph_module=module, example_inputs=_with_small_states(captured, groups, kept))
    return _checked(sliced, groups, {name: len(units) for name, units in kept.items()})


def _with_small_states(captured: Captured, groups: Groups, kept: Mapping[str, Sequence[int]]) -> tuple[Any, ...]:
    """The example, with the part of each state that remains."""
    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    for state, (source, _) in state_nodes(captured):
        if source.op == "placeholder":
            leaves[state.input] = _indexed(leaves[state.input], groups.axes[source.name][0], groups, kept)
    return tuple(pytree.tree_unflatten(leaves, spec))


def _units(groups: Groups, name: str, value: int | Sequence[int]) -> list[int]:
    if name not in groups.by_name:
        raise SliceError(f"there is no group '{name}'; 'shrinkspeech inspect' lists them")
    group = groups[name]
    units = list(range(value)) if isinstance(value, int) else sorted(value)
    if units != list(range(group.size)) and group.frozen:
        raise SliceError(f"group '{name}' may not shrink: {group.frozen}")
    wrong = units and (units[0] < 0 or units[-1] >= group.size or len(set(units)) != len(units))
    if wrong or len(units) < min(group.min_width, group.size):
        least = "one" if group.min_width == 1 else group.min_width
        raise SliceError(
            f"group '{name}' has units 0 to {group.size - 1}; at least {least} of them must be kept, each once"
        )
    return units


def _slice_parameters(module: nn.Module, groups: Groups, kept: Mapping[str, Sequence[int]]) -> None:
    """Index every tensor by its axes, or copy it; a tensor under several names stays one tensor."""
    done: dict[int, Any] = {}
    for name, axes in groups.parameters.items():
        tensor = attribute(module, name)
        if id(tensor) not in done:
            small = _indexed(tensor, axes, groups, kept)
            done[id(tensor)] = (tensor, copy.deepcopy(small) if small is tensor else small)
        set_attribute(module, name, done[id(tensor)][1])


def _indexed(tensor: Tensor, axes: Sequence[Any], groups: Groups, kept: Mapping[str, Sequence[int]]) -> Tensor:
    data = tensor.detach()
    for dim, axis in enumerate(axes):
        index = groups.kept_index(axis, kept)
        if len(index) < data.shape[dim]:
            data = data.index_select(dim, torch.tensor(index, dtype=torch.long, device=data.device))
    if data.shape == tensor.shape:
        return tensor
    return nn.Parameter(data.clone(), tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data.clone()


def slice_tensors(
    tensors: Mapping[str, Mapping[str, Any]], groups: Groups, kept: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, Any]]:
    """Index what belongs to a parameter and has its shape (what an optimiser remembers of it) as the parameter is indexed."""

    def one(name: str, value: Any) -> Any:
        axes = groups.parameters.get(name)
        fits = isinstance(value, Tensor) and axes is not None and value.dim() == len(axes) and value.dim() > 0
        return _indexed(value, axes, groups, kept) if fits and axes is not None else value

    return {name: {key: one(name, value) for key, value in state.items()} for name, state in tensors.items()}


def _rewrite(node: fx.Node, literal: Literal, groups: Groups, kept: Mapping[str, Sequence[int]]) -> None:
    value = (
        -1 if literal.axis is None else groups.size_of(literal.axis, {name: len(units) for name, units in kept.items()})
    )
    head, *rest = literal.path
    if isinstance(head, int):
        node.update_arg(head, _put(node.args[head], rest, value))
    else:
        node.update_kwarg(head, _put(node.kwargs.get(head), rest, value))  # an end may have been left out


def _put(old: Any, path: Sequence[int | str], value: int) -> Any:
    if not path:
        return value
    items = list(old)
    items[int(path[0])] = _put(items[int(path[0])], path[1:], value)
    return items


class _Checker(fx.Interpreter):
    """Runs the sliced graph and stops at the first tensor whose size is not what the labels promise.

    A recurrent layer with a state of the wrong size would end the process, so its inputs are compared before it runs.
    """

    def __init__(self, captured: Captured, groups: Groups, widths: Mapping[str, int]) -> None:
        super().__init__(captured.graph_module)
        self.captured, self.groups, self.widths = captured, groups, widths
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
        self.numbers: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            raise SliceError(f"the sliced graph fails at {n.name} ({self.captured.where(n)}): {error}") from error
        leaves = list(result) if isinstance(result, list | tuple) else [result]
        found = tuple(tuple(x.shape) for x in leaves if isinstance(x, Tensor))
        if isinstance(result, int | float | bool):
            self.numbers[n.name] = result
        self._compare(n, found)
        self.shapes[n.name] = found
        return result

    def _compare(self, n: fx.Node, found: tuple[tuple[int, ...], ...]) -> None:
        if n.op == "output" or not found or n.name not in self.groups.axes:
            return
        promised = tuple(
            tuple(self.groups.size_of(axis, self.widths) for axis in axes) for axes in self.groups.axes[n.name]
        )
        if promised != found:
            where = self.captured.where(n)
            raise SliceError(f"{n.name} ({where}) has shape {found} after slicing where {promised} was expected")


def _checked(sliced: Captured, groups: Groups, widths: Mapping[str, int]) -> Captured:
    checker = _Checker(sliced, groups, widths)
    with torch.no_grad(), undisturbed(sliced.graph_module):
        checker.run(*sliced.example_inputs)
    return replace(sliced, shapes=checker.shapes, numbers=checker.numbers)
