"""Where gates go: a gate before every read of a group, a masked form where channels mix without a contraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.copies import refuse_outdated, watch
from shrinkspeech.graph.frozen import learned
from shrinkspeech.graph.inplace import mutates
from shrinkspeech.graph.modes import TrainableGraph
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Read
from shrinkspeech.surgery.gates import Gate, MaskedOperator, Widths
from shrinkspeech.surgery.ranks import Ranks


class GatedModule(nn.Module):
    """A captured graph with gates. ``widths`` holds the width of every group; the weights have the user's own names."""

    def __init__(self, captured: Captured, groups: Groups, ranks: Ranks | None = None) -> None:
        super().__init__()
        self.source, self.groups = captured, groups
        self.widths = Widths(groups, ranks)
        self.graph = insert_gates(captured.copy(), groups, self.widths)
        self._run: Callable[..., Any] | None = None

    def forward(self, *args: Any) -> Any:
        self.widths.refresh()
        return (self._run or self.graph)(*args)

    def run_by(self, run: Callable[..., Any]) -> None:
        """Let something else run the graph, with the same results."""
        object.__setattr__(self, "_run", run)  # its parameters are those of the graph, and counted there

    def captured(self) -> Captured:
        """The graph without gates, with the present weights."""
        module = self.source.copy()
        weights = self.graph.state_dict()
        with torch.no_grad():
            for name, value in module.state_dict(keep_vars=True).items():
                value.copy_(weights[name])
        return replace(self.source, graph_module=module)


def gate(captured: Captured, groups: Groups, ranks: Ranks | None = None) -> GatedModule:
    """Put gates into a captured graph.

    With every width at its size the result is exactly that of the captured graph; with integer widths in eval mode
    it is that of the sliced graph. Once it is trained, ``GatedModule.captured()`` has its weights: ``captured`` is out of date.

    Args:
        ranks: the order in which units close; from the last of each group to its first where none is given.

    Raises:
        InputError: a copy of the graph has been trained already.
    """
    refuse_outdated(captured.graph_module)
    gated = GatedModule(captured, groups, ranks).eval()
    watch(captured.graph_module, gated.graph)
    return gated


def insert_gates(module: TrainableGraph, groups: Groups, widths: Widths) -> TrainableGraph:
    """Insert gates in place, each just before its first reader, so that it sees what the reader sees.

    One gate serves all readers of the same tensor and axis between which nothing is changed in place, and of which all learn
    or none does.
    """
    graph, changes = module.graph, 0
    gates: dict[tuple[fx.Node, Read, int, bool], fx.Node] = {}
    learning = learned(module)
    nodes = {node.name: node for node in graph.nodes}
    for node in list(graph.nodes):
        changes += mutates(node)
        effect = groups.effects.get(node.name)
        if effect is None:
            continue
        for source in dict.fromkeys(read.node.name for read in effect.reads):
            current = nodes[source]
            for read in effect.reads:
                if read.node.name == source and groups.moves(read.axis):
                    key = (current, read, changes, node.name in learning)
                    if key not in gates:
                        inner = Gate(widths, read, noisy=node.name in learning)
                        gates[key] = _call(module, node, "gate", inner, (current,), {})
                    current = gates[key]
            node.replace_input_with(nodes[source], current)
        if effect.masked is not None and any(groups.moves(axis) for axis in effect.masked.axes):
            nodes[node.name] = _mask(module, node, MaskedOperator(widths, node.target, effect.masked))
    graph.lint()
    module.recompile()
    return module


def _mask(module: TrainableGraph, node: fx.Node, inner: MaskedOperator) -> fx.Node:
    """Put the masked form in the place of ``node``; the train flag stays an argument of it."""
    new = _call(module, node, "masked", inner, node.args, node.kwargs)
    new.meta = {**node.meta, "operator": node.target}
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    return new


def _call(module: TrainableGraph, before: fx.Node, prefix: str, inner: nn.Module, args: Any, kwargs: Any) -> fx.Node:
    name = f"shrinkspeech_{prefix}_{sum(1 for _ in module.children())}"
    module.add_submodule(name, inner)
    with module.graph.inserting_before(before):
        return module.graph.call_module(name, args, kwargs)
