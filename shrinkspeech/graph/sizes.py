"""Inputs of other sizes: which dimensions change together, and values that fit them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Axis, Captured


def axes_of(captured: Captured) -> tuple[Axis, ...]:
    """The dynamic axes: as they were proved, else one for each symbol of the graph."""
    if captured.axes:
        kept = [
            Axis(tuple(p for p in axis.places if p[1] in captured.dynamic[p[0]]), axis.sizes) for axis in captured.axes
        ]
        return tuple(axis for axis in kept if axis.places)
    nodes = [node for node in captured.graph_module.graph.nodes if node.op == "placeholder"]
    found: dict[str, list[tuple[int, int]]] = {}
    for index, (node, dynamic) in enumerate(zip(nodes, captured.dynamic, strict=True)):
        for dim in sorted(dynamic):
            value = node.meta.get("val")
            name = _symbol(value.shape[dim]) if isinstance(value, Tensor) else f"{node.name}.{dim}"
            found.setdefault(name, []).append((index, dim))
    return tuple(Axis(tuple(sorted(places, key=lambda place: size_at(captured, place)))) for places in found.values())


def _symbol(size: Any) -> str:
    """The symbol of a size; also where it is a multiple, as bands × batch is one of the batch."""
    text = str(size)
    return re.sub(r"^(\d+)\*(?=\w+$)", "", text)


def extent(captured: Captured, axis: Axis) -> int:
    """Size of an axis' first place in the example."""
    return size_at(captured, axis.places[0])


def size_at(captured: Captured, place: tuple[int, int]) -> int:
    """Size of one dimension, given as (input, dimension), in the example."""
    return int(pytree.tree_leaves(captured.example_inputs)[place[0]].shape[place[1]])


def resized(captured: Captured, sizes: Mapping[Axis, int]) -> tuple[Any, ...]:
    """Random inputs with other sizes of some axes; the sizes are those of each axis' first place."""
    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    shapes = [list(leaf.shape) if isinstance(leaf, Tensor) else [] for leaf in leaves]
    changed: dict[int, int] = {}
    for axis, size in sizes.items():
        old = extent(captured, axis)
        for index, dim in axis.places:
            own = shapes[index][dim]
            shapes[index][dim] = own * size // old
            if not axis.is_batch:
                changed[own] = own * size // old
    values = [
        _like(leaf, shape, changed, captured.batch) if isinstance(leaf, Tensor) else leaf
        for leaf, shape in zip(leaves, shapes, strict=True)
    ]
    return tuple(pytree.tree_unflatten(values, spec))


def other_inputs(captured: Captured, scale: Callable[[Axis, int], int]) -> tuple[Any, ...]:
    """Random inputs of other sizes: ``scale(axis, size)`` for each dynamic axis."""
    return resized(captured, {axis: scale(axis, extent(captured, axis)) for axis in axes_of(captured)})


def _like(leaf: Tensor, shape: Sequence[int], changed: Mapping[int, int], batch: int) -> Tensor:
    """Values out of the example at another shape, always the same ones, so that a power stays positive and a code known.

    Whole numbers whose largest is the size of an axis are lengths: they change with it. A signal that holds one value
    alone proves little, and gives way to noise.
    """
    generator = torch.Generator().manual_seed(sum(shape))
    flat, wanted = leaf.reshape(-1), torch.Size(shape).numel()
    if leaf.is_floating_point() and leaf.numel() > batch and bool((flat == flat[:1]).all()):
        return torch.randn(tuple(shape), generator=generator).to(leaf.dtype) * 0.1
    if leaf.dim() <= 1 and not leaf.is_floating_point() and not leaf.is_complex() and leaf.dtype != torch.bool:
        flat = flat.sort(descending=True).values
        longest = int(flat[0])
        if longest in changed:
            flat = (flat * changed[longest] // longest).clamp(min=1)
        picks = torch.arange(wanted) % flat.numel()
    else:
        picks = torch.randint(0, flat.numel(), (wanted,), generator=generator)
    return flat[picks].reshape(tuple(shape))
