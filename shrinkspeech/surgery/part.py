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

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs: dictionaries of lists, numbers and tensors."""
        weights, read = self.captured.graph_module.state_dict(), names_read(self.captured)
        return {
            "kept": {name: list(units) for name, units in self.kept.items()},
            "ranks": {name: list(places) for name, places in self.ranks.places.items()},
            "weights": {name: tensor for name, tensor in weights.items() if name in read},
            "optimiser": {name: dict(state) for name, state in self.optimiser.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> Part:
        """The part with a state that was cut from this one, in one step or in several."""
        positions = {name: {unit: place for place, unit in enumerate(units)} for name, units in self.kept.items()}
        part = self.slice({name: [positions[name][unit] for unit in units] for name, units in state["kept"].items()})
        module = part.captured.copy()  # without what no node reads, in the original or after a branch is gone
        module.load_state_dict(state["weights"])
        captured = replace(part.captured, graph_module=module)
        return replace(part, captured=captured, ranks=Ranks(state["ranks"]), optimiser=state["optimiser"])


def names_read(captured: Captured) -> set[str]:
    """Parameters, buffers and constants that a node of the graph reads; there may be others."""
    return {str(node.target) for node in captured.graph_module.graph.nodes if node.op == "get_attr"}


def pruned(groups: Groups, captured: Captured) -> Groups:
    """The groups without what a removed branch has taken along; the constants in its place carry their axes."""
    nodes = {node.name for node in captured.graph_module.graph.nodes}
    if nodes >= set(groups.effects):
        return groups
    read = names_read(captured)
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
        unknown={name: operator for name, operator in groups.unknown.items() if name in nodes},
        uncounted={name: operators for name, operators in groups.uncounted.items() if name in nodes},
    )
