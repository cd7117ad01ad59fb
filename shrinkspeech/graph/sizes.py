"""Dynamic sizes: which dimensions may change, proved by running graph and model at another size of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference, seeded


def symbols(captured: Captured) -> dict[str, list[tuple[int, int]]]:
    """Dynamic sizes by their name in the graph: where each stands, as (input, dimension)."""
    nodes = [node for node in captured.graph_module.graph.nodes if node.op == "placeholder"]
    found: dict[str, list[tuple[int, int]]] = {}
    for index, (node, dynamic) in enumerate(zip(nodes, captured.dynamic, strict=True)):
        for dim in sorted(dynamic):
            value = node.meta.get("val")
            name = str(value.shape[dim]) if isinstance(value, Tensor) else f"{node.name}.{dim}"
            found.setdefault(name, []).append((index, dim))
    return found


def other_inputs(captured: Captured, scale: Callable[[int, int], int], only: str | None = None) -> tuple[Any, ...]:
    """Random inputs of other sizes: ``scale(dim, size)`` for each dynamic size (or only for the one named)."""
    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    shapes = [list(leaf.shape) if isinstance(leaf, Tensor) else [] for leaf in leaves]
    for name, places in symbols(captured).items():
        if only is None or name == only:
            new = scale(places[0][1], shapes[places[0][0]][places[0][1]])
            for index, dim in places:
                shapes[index][dim] = new
    changed = [
        _like(leaf, shape) if isinstance(leaf, Tensor) else leaf for leaf, shape in zip(leaves, shapes, strict=True)
    ]
    return tuple(pytree.tree_unflatten(changed, spec))


def _like(leaf: Tensor, shape: list[int]) -> Tensor:
    """Values of the example's own kind at another shape, always the same ones."""
    generator = torch.Generator().manual_seed(sum(shape))
    if leaf.is_floating_point():
        deviation = float(leaf.std()) if leaf.numel() > 1 else 0.0
        return torch.randn(shape, generator=generator).to(leaf.dtype) * (deviation or 0.1)
    flat = leaf.reshape(-1)
    picks = torch.randint(0, flat.numel(), (torch.Size(shape).numel(),), generator=generator)
    return flat[picks].reshape(shape)


def smaller(dim: int, size: int) -> int:
    """Another size for a dynamic dimension: one more in the batch, three quarters elsewhere."""
    return size + 1 if dim == 0 else max(2, size * 3 // 4)


def proved_dynamic(captured: Captured, reference: nn.Module) -> Captured:
    """Keep a dimension dynamic only if graph and model agree at another size of it; say why where it is not."""
    notes: list[str] = []
    fixed: set[tuple[int, int]] = set()
    for name, places in symbols(captured).items():
        index, dim = places[0]
        inputs = other_inputs(captured, smaller, only=name)
        problem = _compare(captured, reference, inputs)
        if problem:
            fixed |= set(places)
            notes.append(f"input {index}: dimension {dim} stays {_extent(captured, index, dim)}: {problem}")
    for index, (x, dynamic) in enumerate(
        zip(pytree.tree_leaves(captured.example_inputs), captured.dynamic, strict=True)
    ):
        if isinstance(x, Tensor) and x.dim() > 1:
            notes += [
                f"input {index}: dimension {dim} stays {x.shape[dim]}: the model's code fixes it"
                for dim in (0, x.dim() - 1)
                if dim not in dynamic
            ]
    kept = tuple(
        frozenset(dim for dim in dims if (index, dim) not in fixed) for index, dims in enumerate(captured.dynamic)
    )
    return replace(captured, dynamic=kept, notes=(*captured.notes, *dict.fromkeys(notes)))


def _extent(captured: Captured, index: int, dim: int) -> int:
    return int(pytree.tree_leaves(captured.example_inputs)[index].shape[dim])


def _compare(captured: Captured, reference: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Why another size is not possible; empty where graph and model agree (also where both draw the same noise)."""
    try:
        wanted = seeded(reference, inputs)
    except Exception:
        return "the model runs at no other size tried"
    try:
        worst = max_difference(seeded(captured.graph_module, inputs), wanted)
    except Exception as error:
        return f"the captured graph fails at another ({type(error).__name__})"
    return "" if worst <= 1e-4 else f"the captured graph differs at another (by {worst:.1e})"
