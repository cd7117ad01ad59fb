"""Bins of a spectrum that nobody reads: their kernels are left out of the file.

The graph is labelled once more when transforms are convolutions. A unit of such a convolution is not read if every slice
leaves it behind, or if every matrix that reads it has zeros there, as a bank of mel filters has outside of its bands. In the
second case zeros are put in the place of the bins at either end, and the product stays what it is: a file costs what its model
does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, fx

from shrinkspeech.axes.algebra import Axis, labels_of
from shrinkspeech.export.transforms import Forms
from shrinkspeech.graph.captured import Captured, attribute, set_attribute, with_shapes
from shrinkspeech.graph.fourier import points_of_tensor
from shrinkspeech.groups.groups import Group, Groups
from shrinkspeech.groups.label import label
from shrinkspeech.rules.registry import Read
from shrinkspeech.surgery.slice import slice as sliced

aten = torch.ops.aten

WORTH_PADDING = 1 / 16
"""Share of the bins that must go for zeros to be put in their place, which takes time too."""


def without_unread(captured: Captured, forms: Forms) -> Captured:
    """The graph without the kernels of bins that nobody reads; how many are left for each transform is noted in ``forms``.

    Args:
        captured: without complex numbers.
    """
    kernels = _kernels(captured, forms)
    if not kernels:
        return captured
    captured = with_shapes(captured)
    groups = label(captured)
    carried = [group for group in groups if any(carrier.parameter in kernels for carrier in group.carriers)]
    kept, padded = {}, {}
    for group in (group for group in carried if not group.frozen):
        reads = _reads(captured, groups, group)
        units = _units(captured, groups, group, reads)
        if len(units) < group.size:
            kept[group.name] = units
            padded.update(reads)
    if not kept:
        return captured
    small = sliced(captured, _may_vanish(groups, kept), kept)
    if any(_points(captured, name) != _points(small, name) for name in kernels):
        return captured  # too few are left for whoever counts to know it
    for name, read in padded.items():
        _pad(captured, small, groups, name, read, kept)
    small.graph_module.recompile()
    for name, node in kernels.items():
        before, after = (len(attribute(x.graph_module, name)) for x in (captured, small))
        if after < before:
            forms.read(node, (after + 1) // 2)
    return with_shapes(small)


def _kernels(captured: Captured, forms: Forms) -> dict[str, str]:
    """The matrices of convolutions that stand for transforms, and the nodes that those were."""
    nodes = {node.name: node for node in captured.graph_module.graph.nodes}
    written = {name: node for name, node in forms.kernels.items() if name in nodes}
    return {str(nodes[name].args[1].target): node for name, node in written.items()}


def _points(captured: Captured, name: str) -> int | None:
    return points_of_tensor(attribute(captured.graph_module, name))


def _may_vanish(groups: Groups, names: Collection[str]) -> Groups:
    return replace(
        groups,
        by_name={
            name: replace(group, min_width=0) if name in names else group for name, group in groups.by_name.items()
        },
    )


def _has(axis: Axis, group: Group) -> bool:
    return group.label in set(labels_of(axis))


def _reads(captured: Captured, groups: Groups, group: Group) -> dict[str, Read | None]:
    """Where units are read, by the name of the node; None where that is not by one constant matrix of their own."""
    found: dict[str, Read | None] = {}
    for node in captured.graph_module.graph.nodes:
        effect = groups.effects.get(node.name)
        if effect is None:
            continue
        reads = [read for read in effect.reads if any(_has(x, group) for x in (read.axis, read.outer, read.inner))]
        if effect.masked is not None and any(_has(axis, group) for axis in effect.masked.axes):
            found[node.name] = None
        elif reads:
            found[node.name] = reads[0] if len(reads) == 1 and _weight(groups, node, reads[0], group) else None
    return found


def _weight(groups: Groups, node: fx.Node, read: Read, group: Group) -> tuple[fx.Node, int] | None:
    """The constant matrix that reads the units alone, and its dimension of them."""
    places = [
        (source, dim)
        for source in node.all_input_nodes
        if source.op == "get_attr"
        for dim, axis in enumerate(groups.axes[source.name][0])
        if axis == group.label
    ]
    whole = groups.axes[read.node.name][0][read.dim] == group.label and read.node.op != "get_attr"
    return places[0] if len(places) == 1 and whole else None


def _units(captured: Captured, groups: Groups, group: Group, reads: Mapping[str, Read | None]) -> list[int]:
    """The units that somebody reads: with all between the first and the last, where zeros take the place of the others."""
    alive = torch.zeros(group.size, dtype=torch.bool)
    nodes = {node.name: node for node in captured.graph_module.graph.nodes}
    for name, read in reads.items():
        place = None if read is None else _weight(groups, nodes[name], read, group)
        if place is None:
            return list(range(group.size))
        alive |= _not_zero(attribute(captured.graph_module, str(place[0].target)), place[1])
    if not reads:
        return []
    inside = alive.nonzero()[:, 0].tolist()
    gone = group.size - (inside[-1] + 1 - inside[0] if inside else 0)
    return (
        list(range(inside[0], inside[-1] + 1))
        if inside and gone >= WORTH_PADDING * group.size
        else list(range(group.size))
    )


def _not_zero(weight: Tensor, dim: int) -> Tensor:
    return weight.detach().movedim(dim, 0).flatten(1).ne(0).any(1)


def _pad(
    captured: Captured, small: Captured, groups: Groups, name: str, read: Read | None, kept: Mapping[str, list[int]]
) -> None:
    """Zeros where units were, in front of a product whose matrix is whole again."""
    assert read is not None
    node = next(node for node in small.graph_module.graph.nodes if node.name == name)
    source = next(x for x in node.all_input_nodes if x.name == read.node.name)
    group = next(
        group for group in groups if group.name in kept and groups.axes[source.name][0][read.dim] == group.label
    )
    units, (weight, _) = kept[group.name], _weight(groups, node, read, group)  # type: ignore[misc]
    behind = len(groups.axes[source.name][0]) - 1 - read.dim % len(groups.axes[source.name][0])
    amounts = [0, 0] * behind + [units[0], group.size - 1 - units[-1]]
    with small.graph_module.graph.inserting_before(node):
        whole = small.graph_module.graph.call_function(aten.constant_pad_nd.default, (source, amounts))
    node.replace_input_with(source, whole)
    set_attribute(small.graph_module, str(weight.target), attribute(captured.graph_module, str(weight.target)))
