"""What is left of a model while it shrinks, step by step, and where its units come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shrinkspeech.axes.algebra import Axes, Fixed
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Effect
from shrinkspeech.surgery.depth import CONSTANT
from shrinkspeech.surgery.ranks import Ranks
from shrinkspeech.surgery.slice import slice as slice_graph
from shrinkspeech.surgery.slice import slice_tensors

OptimiserState = Mapping[str, Mapping[str, Any]]
"""What an optimiser remembers of each parameter, by the parameter's own name and then by torch's (``exp_avg``)."""


@dataclass(frozen=True)
class Part:
    """What is left of a model on the way: its graph, the labels of that graph, and where its units come from.

    Attributes:
        kept: units of the original that remain, ascending, for each group that could shrink.
        ranks: the order in which the present units go.
        optimiser: what the optimiser remembers of the present parameters; empty before training.
    """

    captured: Captured
    groups: Groups
    kept: Mapping[str, Sequence[int]]
    ranks: Ranks
    optimiser: OptimiserState

    @classmethod
    def whole(cls, captured: Captured, groups: Groups) -> Part:
        """The original itself."""
        units = {group.name: range(group.size) for group in groups.shrinkable}
        return cls(captured, groups, units, Ranks.ascending({name: len(some) for name, some in units.items()}), {})

    @property
    def widths(self) -> dict[str, int]:
        return {name: len(units) for name, units in self.kept.items()}

    def slice(self, units: Mapping[str, Sequence[int]]) -> Part:
        """The part with only some of its present units (by position, ascending) for each group."""
        captured = slice_graph(self.captured, self.groups, units)
        return Part(
            captured,
            pruned(self.groups.narrowed(units), captured),
            {name: [self.kept[name][unit] for unit in units[name]] for name in self.kept},
            self.ranks.among(units),
            slice_tensors(self.optimiser, self.groups, units),
        )


def pruned(groups: Groups, captured: Captured) -> Groups:
    """The groups without what a removed branch has taken along; the constants in its place carry their axes."""
    nodes = {node.name for node in captured.graph_module.graph.nodes}
    if nodes >= set(groups.effects):
        return groups
    read = {str(node.target) for node in captured.graph_module.graph.nodes if node.op == "get_attr"}
    tensors = {name: tensor for name, tensor in captured.parameters().items() if name in read}
    constants: dict[str, Axes] = {}
    for name, tensor in tensors.items():
        node = name.removesuffix(CONSTANT)
        if name not in groups.parameters and node != name and node in groups.axes:
            axes = zip(groups.axes[node][0], tensor.shape, strict=True)
            constants[name] = tuple(Fixed(1) if size == 1 else axis for axis, size in axes)

    def present(effect: Effect) -> Effect:
        reads = tuple(read for read in effect.reads if read.node.name in nodes)
        folds = tuple(fold for fold in effect.folds if {fold.feature.name, fold.weight.name} <= nodes)
        return replace(effect, reads=reads, folds=folds)

    return replace(
        groups,
        effects={name: present(effect) for name, effect in groups.effects.items() if name in nodes},
        parameters={**{name: axes for name, axes in groups.parameters.items() if name in tensors}, **constants},
    )
