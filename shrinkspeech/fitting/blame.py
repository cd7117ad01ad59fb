"""Where a loss or a gradient stops being finite: the node of the graph, and the user's own line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from shrinkspeech.graph.inplace import mutates
from shrinkspeech.graph.modes import operator_of
from shrinkspeech.surgery.insert import GatedModule

LOSS_ITSELF = "the model's outputs are finite, so that the loss itself makes it so"


def worst(found: Sequence[str]) -> str:
    """What tells most of the sentences of several processes, each of which has run the model on its own rows."""
    return max(found, key=lambda text: (text not in ("", LOSS_ITSELF), bool(text)))


def blame(model: nn.Module, loss: Callable[[Any], Tensor], where: Callable[[fx.Node], str]) -> str:
    """A sentence on what makes the loss or its gradient not finite, found in a run of its own; empty if this run has neither.

    Args:
        model: a captured graph, with or without gates.
        loss: of a model, on the batch in question.
        where: the user's own place of a node.
    """
    watch = _Watch(model)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        value = loss(watch)
        if value.requires_grad and weights and bool(value.isfinite()):
            torch.autograd.grad(value, weights, allow_unused=True)
    culprit = watch.undefined or watch.infinite
    if not bool(value.isfinite()):
        if culprit is None:
            return LOSS_ITSELF
        return f"the first value that is not finite is that of {_name(culprit)} at {where(culprit)}"
    if watch.steep is None:
        return ""
    return (
        f"it is finite until it goes back through {_name(watch.steep)} at {where(watch.steep)} (roots and norms have no slope "
        "at 0, where silence takes them): keep what that reads above 0 (clamp_min), or freeze what is trained before it"
    )


def _name(node: fx.Node) -> str:
    return str(operator_of(node)).removeprefix("aten.").removesuffix(".default")


class _Watch(fx.Interpreter):
    """Runs a graph and remembers nodes.

    Attributes:
        undefined: the first that makes NaN of numbers; ``infinite``: the first that makes infinity of finite ones.
        steep: the last whose inputs get a gradient that is not finite; its own was, since a backward pass comes to it first.
    """

    def __init__(self, model: nn.Module) -> None:
        self.gates = model.widths if isinstance(model, GatedModule) else None
        super().__init__(model.graph if isinstance(model, GatedModule) else model)
        self.undefined: fx.Node | None = None
        self.infinite: fx.Node | None = None
        self.steep: fx.Node | None = None

    def __call__(self, *args: Any) -> Any:
        if self.gates is not None:
            self.gates.refresh()
        return self.run(*args)

    def run_node(self, n: fx.Node) -> Any:
        if n.op not in ("call_function", "call_module"):
            return super().run_node(n)
        given = self.fetch_args_kwargs_from_env(n)
        if not mutates(n):
            given = tree_map(partial(self._watched, n), given)
        result = getattr(self, n.op)(n.target, *given)
        if self.undefined is None and _any(torch.isnan, result) and not _any(torch.isnan, given):
            self.undefined = n
        if self.infinite is None and _any(torch.isinf, result) and not _any(torch.isinf, given):
            self.infinite = n
        return result

    def _watched(self, node: fx.Node, x: Any) -> Any:
        """A copy for this reader alone, whose gradient tells what the reader made of it."""
        if not isinstance(x, Tensor) or not x.requires_grad:
            return x
        own = x.clone()
        own.register_hook(partial(self._note, node))
        return own

    def _note(self, node: fx.Node, gradient: Tensor) -> None:
        if self.steep is None and not bool(gradient.isfinite().all()):
            self.steep = node


def _any(test: Callable[[Tensor], Tensor], values: Any) -> bool:
    return any(isinstance(x, Tensor) and x.is_floating_point() and bool(test(x).any()) for x in tree_leaves(values))
