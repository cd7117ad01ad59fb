"""The tensors that go into a model and come out of it, as ends of states: what they are called, and which fit each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.names import input_names, is_tensor, output_leaves, output_names, placeholders

TIMES = frozenset(
    "new next out output updated present current past prev previous last in input init initial start old n t".split()
)
"""Words of a name that say when a state is, and not which."""

STATEFUL = frozenset("h c hidden state states cache caches memory mem buffer history context".split())
"""Words by which an input is called a state, so that it is not taken for the signal."""


@dataclass(frozen=True)
class End:
    """One tensor that goes in or comes out: its leaf, name, node, sizes, and where it stands."""

    leaf: int
    name: str
    node: fx.Node
    shape: tuple[int, ...]
    path: tuple[Any, ...]

    @property
    def words(self) -> frozenset[str]:
        """What of the name says which state it is: ``new_h_cache`` and ``h_cache_out`` are both of h and cache."""
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name)
        parts = [word.lower() for word in re.split(r"[\W_]+", spaced) if word]
        found = [re.sub(r"^([hc])[n0x]$", r"\1", word) for word in parts]
        return frozenset(word for word in found if word not in TIMES and not word.isdigit()) or frozenset(found)


def inputs_of(captured: Captured) -> list[End]:
    paths, _ = pytree.tree_flatten_with_path(captured.example_inputs)
    nodes = placeholders(captured.graph_module)
    found = [(i, node, leaf, path) for i, (node, (path, leaf)) in enumerate(zip(nodes, paths, strict=False))]
    named = [item for item in found if isinstance(item[2], Tensor)]
    return [
        End(i, name, node, tuple(leaf.shape), path)
        for name, (i, node, leaf, path) in zip(input_names(captured), named, strict=True)
    ]


def outputs_of(captured: Captured) -> list[End]:
    leaves = enumerate(output_leaves(captured.graph_module))
    named = [(i, path, node) for i, (path, node) in leaves if is_tensor(captured, node)]
    return [
        End(i, name, node, captured.shapes[node.name][0], path)
        for name, (i, path, node) in zip(output_names(captured), named, strict=True)
    ]


def lengths_of(end: End) -> set[str]:
    """Symbols of the sizes that may change, beside the batch."""
    value = end.node.meta.get("val")
    sizes = value.shape[1:] if isinstance(value, Tensor) else ()
    return {str(size) for size in sizes if not is_concrete_int(size)}


def fits(source: End, result: End, grows: bool = False) -> bool:
    """Whether the shapes are one; with ``grows`` also where the output is longer in one dimension, as a growing cache is."""
    if len(source.shape) != len(result.shape):
        return False
    other = [(a, b) for a, b in zip(source.shape, result.shape, strict=True) if a != b]
    return not other or (grows and len(other) == 1 and other[0][0] < other[0][1])


def sizes_text(end: End) -> str:
    return "x".join(map(str, end.shape)) or "a number"
