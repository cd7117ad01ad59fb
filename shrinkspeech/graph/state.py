"""What a model writes into its own tensors while it runs: named, and put back after every run that only looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx, nn

from shrinkspeech.errors import InputError
from shrinkspeech.graph.inplace import mutates, owner_of

OVERLAPS = 1
"""torch's answer where several elements of a tensor are one place in memory."""


def written(graph_module: fx.GraphModule) -> tuple[str, ...]:
    """Names of the tensors that keep state from one call to the next: those that the graph itself writes to."""
    names: dict[str, None] = {}
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and mutates(node):
            owner = owner_of(node.args[0])
            if isinstance(owner, fx.Node) and owner.op == "get_attr":
                names[str(owner.target)] = None
    return tuple(names)


def refuse_state(graph_module: fx.GraphModule, purpose: str) -> None:
    """Refuse a graph that keeps state from one call to the next.

    Raises:
        InputError: it does; the sentence names the tensors and says that they stand in the way of ``purpose``.
    """
    names = written(graph_module)
    if names:
        raise InputError(
            f"the model writes to {', '.join(names[:3])} in forward and so remembers the batch before, which {purpose} "
            "cannot keep: let the state be an input and an output of the model"
        )


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Inside, a model may be run; afterwards its buffers hold what they held before.

    A buffer that repeats one value in memory (``expand``) is left out: torch writes to no such tensor, so no model has.
    """
    own = {
        name: buffer for name, buffer in module.named_buffers() if torch._debug_has_internal_overlap(buffer) != OVERLAPS
    }
    before = {name: (buffer, buffer.detach().clone()) for name, buffer in own.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before.values():
                buffer.copy_(value)
