"""Activation checkpointing: a graph is run in segments, of which the backward pass computes all but the first values again.

About √n segments of √n nodes each: what is kept are the values between segments, and of one segment at a time those inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import attribute
from shrinkspeech.graph.inplace import mutates
from shrinkspeech.graph.modes import NORMS, operator_of
from shrinkspeech.surgery.gates import Gate, MaskedOperator
from shrinkspeech.surgery.insert import GatedModule

Around = Callable[[list[Tensor], bool], AbstractContextManager[Any]]
"""Around the run of a segment: a list that stays between its runs, and whether this is the second."""


def _nothing(kept: list[Tensor], again: bool) -> AbstractContextManager[Any]:
    return nullcontext()


@dataclass(frozen=True)
class Segment:
    """Nodes that are computed together.

    Attributes:
        given: nodes before it that it reads.
        left: nodes of it that later ones read.
        again: whether the backward pass may compute it once more.
    """

    nodes: tuple[fx.Node, ...]
    given: tuple[fx.Node, ...]
    left: tuple[fx.Node, ...]
    again: bool

    def run(self, module: nn.Module, values: Sequence[Any]) -> tuple[Any, ...]:
        """What later nodes read of it."""
        known = dict(zip(self.given, values, strict=True))
        for node in self.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = _function(node, module)(*args, **kwargs)
        return tuple(known[node] for node in self.left)


class Segments(nn.Module):
    """A graph that is run in segments; with the same results and gradients as the graph itself.

    Args:
        graph: with or without gates; its parameters, buffers and train flags are used as they are at each run.
        around: see ``Around``.

    Raises:
        InputError: the graph changes values in place, so that they cannot be computed again.
    """

    def __init__(self, graph: fx.GraphModule, around: Around = _nothing) -> None:
        super().__init__()
        self.graph, self.around = graph, around
        changing = [node for node in graph.graph.nodes if mutates(node)]
        if changing:
            raise InputError(
                f"--checkpoint-activations computes values again, and {changing[0]} of this model changes some in place: leave "
                "it out"
            )
        self.segments = segments_of(graph.graph)
        self.gates = [module for module in graph.modules() if isinstance(module, Gate | MaskedOperator)]

    def forward(self, *args: Any) -> Any:
        for gate in self.gates:
            gate.prepare()
        module, graph = self.graph, self.graph.graph
        places = [node for node in graph.nodes if node.op == "placeholder"]
        output = next(node for node in graph.nodes if node.op == "output")
        known: dict[fx.Node, Any] = dict(zip(places, graph.process_inputs(*args), strict=True))
        last = {
            node: segment for segment in self.segments for node in segment.given if node not in output.all_input_nodes
        }
        for segment in self.segments:
            given = [known[node] for node in segment.given]
            if segment.again and torch.is_grad_enabled():
                found = checkpoint(self._twice(segment), *given, use_reentrant=False)
            else:
                found = segment.run(module, given)
            known.update(zip(segment.left, found, strict=True))
            for node in segment.given:
                if last.get(node) is segment:
                    del known[node]
        return graph.process_outputs(fx.map_arg(output.args[0], known.__getitem__))

    def _twice(self, segment: Segment) -> Callable[..., tuple[Any, ...]]:
        kept: list[Tensor] = []
        runs = 0

        def run(*given: Any) -> tuple[Any, ...]:
            nonlocal runs
            runs += 1
            with self.around(kept, runs > 1):
                return segment.run(self.graph, given)

        return run


def segments_of(graph: fx.Graph) -> list[Segment]:
    """The nodes of a graph in their order. Norms that write running statistics stand alone: they must not do it twice."""
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    size = max(1, math.isqrt(len(nodes)))
    lots: list[list[fx.Node]] = [[]]
    for node in nodes:
        alone = operator_of(node) in NORMS
        if lots[-1] and (alone or len(lots[-1]) >= size or operator_of(lots[-1][-1]) in NORMS):
            lots.append([])
        lots[-1].append(node)
    return [_segment(lot) for lot in lots if lot]


def _segment(lot: Sequence[fx.Node]) -> Segment:
    inside = set(lot)
    given = dict.fromkeys(source for node in lot for source in node.all_input_nodes if source not in inside)
    left = [node for node in lot if any(user not in inside for user in node.users)]
    return Segment(tuple(lot), tuple(given), tuple(left), operator_of(lot[0]) not in NORMS)


def _function(node: fx.Node, module: nn.Module) -> Callable[..., Any]:
    if node.op == "get_attr":
        return lambda: attribute(module, str(node.target))
    if node.op == "call_module":
        found: Callable[..., Any] = module.get_submodule(str(node.target))
        return found
    if node.op == "call_method":
        return lambda first, *args, **kwargs: getattr(first, str(node.target))(*args, **kwargs)
    return node.target  # type: ignore[return-value]


def in_segments(model: nn.Module, around: Around = _nothing) -> nn.Module:
    """A graph or a gated graph that keeps few activations for the backward pass."""
    if isinstance(model, GatedModule):
        model.run_by(Segments(model.graph, around))
        return model
    assert isinstance(model, fx.GraphModule)
    return Segments(model, around)


def plain(model: Any) -> Any:
    """The graph that ``in_segments`` was given."""
    return model.graph if isinstance(model, Segments) else model
