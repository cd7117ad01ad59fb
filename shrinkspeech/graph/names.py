"""What inputs and outputs of a captured graph are called: the user's arguments, and the keys of what the model returns."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Captured

Path = tuple[Any, ...]
"""Where a leaf stands among nested inputs or outputs: keys and positions."""


def input_names(captured: Captured) -> list[str]:
    """The tensors that go in, in their order."""
    leaves = pytree.tree_leaves(captured.example_inputs)
    return [
        str(node.target)
        for node, leaf in zip(placeholders(captured.graph_module), leaves, strict=False)
        if isinstance(leaf, Tensor)
    ]


def output_names(captured: Captured) -> list[str]:
    """``output``, or for several the keys under which the model returns them: ``output_0``, ``logits``, ``state_1``."""
    names = []
    for path, leaf in output_leaves(captured.graph_module):
        if not is_tensor(captured, leaf):
            continue
        parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
        name = "_".join(re.sub(r"\W", "_", part) for part in parts)
        names.append(f"output_{name}" if name[:1].isdigit() else name or "output")
    taken = set(input_names(captured))
    return [f"output_{name}" if name in taken else name for name in names]


def is_tensor(captured: Captured, leaf: Any) -> bool:
    """Whether what a graph returns is a tensor, and not a plain value."""
    return isinstance(leaf, fx.Node) and bool(captured.shapes.get(leaf.name))


def placeholders(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes of the inputs, one for each leaf."""
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def output_leaves(module: fx.GraphModule) -> list[tuple[Path, Any]]:
    """Path and node of each leaf that the graph returns; a leaf may be a plain value."""
    node = next(node for node in module.graph.nodes if node.op == "output")
    leaves = pytree.tree_leaves(node.args[0])
    codegen = module.graph._codegen
    info = getattr(codegen, "pytree_info", None)
    if info is None or info.out_spec is None or info.out_spec.num_leaves != len(leaves):
        return [((i,), leaf) for i, leaf in enumerate(leaves)]
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(leaves, info.out_spec))
    return list(paths)
