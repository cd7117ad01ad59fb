"""Whether the first dimension is a batch: items of a batch do not know of each other, frames of a time-first model do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import seeded, tensors_of
from shrinkspeech.graph.sizes import axes_of, size_at

FELT = 1e-5
"""A difference below this, relative to the largest value, is rounding."""

Place = tuple[int, int]


def double_batch(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch of one is repeated where every tensor has it: sizes of 1 are never dynamic.

    States of recurrent layers have the layers first and then the batch, which is tried where the model does not run else.
    """
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]

    def doubled(dims: list[int]) -> tuple[Any, ...]:
        places = iter(dims)
        return pytree.tree_map(lambda x: torch.cat([x, x], next(places)) if isinstance(x, Tensor) else x, inputs)

    def single(dims: list[int]) -> bool:
        return all(x.dim() > 1 and x.shape[dim] == 1 for x, dim in zip(tensors, dims, strict=True))

    first, second = [0] * len(tensors), [0, *[1] * (len(tensors) - 1)]
    if len(tensors) < 2 or not single(second):
        return doubled(first) if tensors and single(first) else inputs
    for dims in (first, second) if single(first) else (second,):
        try:
            seeded(module, doubled(dims))
        except Exception:  # the model's own words for a size that it does not take
            continue
        return doubled(dims)
    return inputs


def doubt(captured: Captured, outputs: Any) -> str:
    """A sentence where the items of the first dimension depend on each other and those of another dimension do not.

    Args:
        outputs: of the graph for the example.
    """
    before = _numbers(outputs)
    leaves = pytree.tree_leaves(captured.example_inputs)
    first = next((i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.dim() > 1), None)
    if first is None or independent(captured, tied(captured, (first, 0)), before):
        return ""
    others = [(first, dim) for dim in sorted(captured.dynamic[first]) if dim]
    found = next((place for place in others if independent(captured, tied(captured, place), before)), None)
    if found is None:
        return ""
    items, batch = size_at(captured, (first, 0)), size_at(captured, found)
    return (
        f"input {first}: dimension 0 is taken for the batch, but its items depend on each other, and those of dimension "
        f"{found[1]} do not: the model seems to be time-first, and then has {items}/{batch} times the FLOP/s that are said: "
        "wrap it so that the batch comes first (x.transpose(0, 1))"
    )


def tied(captured: Captured, place: Place) -> Sequence[Place]:
    """The places that change with one."""
    return next((axis.places for axis in axes_of(captured) if place in axis.places), (place,))


def independent(captured: Captured, places: Sequence[Place], before: Sequence[Tensor]) -> bool:
    """Whether another first item along an axis changes the first item of the outputs alone.

    Args:
        before: outputs of the graph for the example.
    """
    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    size = size_at(captured, places[0])
    changed = list(leaves)
    for index, dim in places:
        x = leaves[index]
        if x.is_floating_point() and x.shape[dim] == size:
            changed[index] = x.detach().clone()
            item = changed[index].select(dim, 0)
            noise = torch.randn(item.shape, generator=torch.Generator().manual_seed(index)).to(x.dtype)
            item.add_(noise * (x.std() + 1e-3))
    if size < 2 or all(old is new for old, new in zip(leaves, changed, strict=True)):
        return True
    after = _numbers(seeded(captured.graph_module, tuple(pytree.tree_unflatten(changed, spec))))
    return all(_first_alone(x, y, size) for x, y in zip(before, after, strict=True))


def _numbers(outputs: Any) -> list[Tensor]:
    return [x for x in tensors_of(outputs) if x.is_floating_point()]


def _first_alone(before: Tensor, after: Tensor, size: int) -> bool:
    """Whether two outputs differ nowhere, or along some dimension in the part of the first of ``size`` items alone.

    Outputs whose sizes hang on values, as those of chosen frames do, do not tell: nothing is said of them.
    """
    if before.shape != after.shape:
        return True
    felt = (
        (before - after).abs() > FELT * before.abs().nan_to_num(0.0, 0.0, 0.0).max() if before.numel() else before > 0
    )
    if not bool(felt.any()):
        return True
    return any(
        extent % size == 0 and not bool(felt.narrow(dim, extent // size, extent - extent // size).any())
        for dim, extent in enumerate(felt.shape)
    )
