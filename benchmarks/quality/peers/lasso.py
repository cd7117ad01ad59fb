"""Sparse group lasso: a penalty pulls whole units to zero in training, the smallest are removed, the rest is tuned.

The penalty is λ Σ_u (s_g √n_u ‖w_u‖₂ + α Σ_i s_i |w_ui|) over the units u of every group g that our labels find. w_u are
all n_u weights that a unit owns: its filters, its norm's scale and shift, and what reads it. s_g is the mean over the
group of the root mean square of w_u at the start, as in the adaptive lasso (without it, groups of small weights are
emptied first); s_i is that of a whole parameter. It is applied as a proximal step after each step of AdamW: the soft
threshold of single weights, then the shrinkage of units. λ is such that a mean unit would lose the share PULL of its norm
over the phase if the loss did not resist; settings.md says how PULL was chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.quality.peers.own_graph import Graph
from benchmarks.quality.peers.tuning import Data, finetune, schedule
from shrinkspeech.fitting.taylor import owners
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups

ALPHA = 0.05
"""α above: how much single weights are pulled, beside units."""

SHARE = 0.5
"""Share of the steps with the penalty."""

PULL = 0.03
"""Strength: the share of its norm that a mean unit loses over the phase where the loss does not resist."""


@dataclass
class Slot:
    """One axis of a parameter: for each position the unit of a group that it belongs to, -1 for none."""

    parameter: nn.Parameter
    dim: int
    owners: Tensor


class Penalty:
    """The units of a graph module, their norms, and the proximal step."""

    def __init__(self, module: nn.Module, captured: Captured, groups: Groups) -> None:
        parameters = dict(module.named_parameters())
        self.slots: dict[str, list[Slot]] = {}
        self.sizes: dict[str, Tensor] = {}
        for group in groups.shrinkable:
            slots = []
            for carrier in group.carriers:
                if carrier.parameter in parameters:
                    owner = torch.tensor(owners(groups, groups.parameters[carrier.parameter][carrier.dim], group))
                    slots.append(Slot(parameters[carrier.parameter], carrier.dim, owner))
            self.slots[group.name] = slots
            self.sizes[group.name] = self._sum(slots, group.size, torch.ones_like).clamp_min(1.0)
        self.carrying = {id(slot.parameter): slot.parameter for slots in self.slots.values() for slot in slots}
        self.scale = {name: 1.0 for name in self.slots}
        self.scale = {name: max(float(norm.mean()), 1e-12) for name, norm in self.norms().items()}
        self.spread = {key: float(p.detach().square().mean().sqrt()) for key, p in self.carrying.items()}

    @staticmethod
    def _sum(slots: list[Slot], size: int, of: Any) -> Tensor:
        total = torch.zeros(size)
        for slot in slots:
            values = of(slot.parameter.detach()).movedim(slot.dim, 0).reshape(len(slot.owners), -1).sum(1)
            mine = slot.owners >= 0
            total.index_add_(0, slot.owners[mine], values[mine])
        return total

    def norms(self) -> dict[str, Tensor]:
        """The root mean square of every unit's weights as a share of the group's mean at the start."""
        return {
            name: (self._sum(slots, len(self.sizes[name]), torch.square) / self.sizes[name]).sqrt() / self.scale[name]
            for name, slots in self.slots.items()
        }

    @torch.no_grad()
    def shrink(self, amount: float) -> None:
        """The proximal step of ``amount`` × the penalty."""
        for key, parameter in self.carrying.items():
            parameter.copy_(parameter.sign() * (parameter.abs() - ALPHA * amount * self.spread[key]).clamp_min(0.0))
        for name, norm in self.norms().items():
            scale = (1.0 - amount / norm.clamp_min(1e-12)).clamp_min(0.0)
            for slot in self.slots[name]:
                scales = torch.where(slot.owners >= 0, scale[slot.owners.clamp_min(0)], 1.0)
                shape = [1] * slot.parameter.dim()
                shape[slot.dim] = -1
                slot.parameter.mul_(scales.view(shape))


def shrink(model: nn.Module, recipe: Any, target: float, steps: int, rate: float, seed: int) -> nn.Module:
    """Train with the penalty, remove the smallest units of all groups, fine-tune."""
    graph = Graph.of(model, recipe, target)
    data = Data(recipe, seed)
    module = graph.captured.module()
    penalty = Penalty(module, graph.captured, graph.groups)
    sparse = round(SHARE * steps)
    path = sum(rate * schedule(step, sparse) for step in range(sparse))
    strength = PULL / max(path, 1e-12)
    finetune(module, data, sparse, rate, weight_decay=0.0, after=lambda step, now: penalty.shrink(strength * now))
    sparse_model = replace(graph, captured=replace(graph.captured, graph_module=module))
    small = sparse_model.cut(largest(graph, penalty.norms()))
    return finetune(small, data, steps - sparse, rate)


def largest(graph: Graph, norms: dict[str, Tensor]) -> dict[str, list[int]]:
    """The units to keep: those of largest norm over all groups, as many as the limit allows."""
    order = {name: torch.argsort(norm, descending=True).tolist() for name, norm in norms.items()}
    ranked = sorted(((float(norms[n][u]), n) for n in order for u in order[n]), key=lambda pair: pair[0])
    kept = dict(graph.goal.full)
    cost = graph.goal.at(kept)
    for _, name in ranked:
        if cost <= graph.goal.target:
            break
        if kept[name] > graph.goal.lowest[name]:
            kept[name] -= 1
            cost = graph.goal.at(kept)
    for norm, name in reversed(ranked):  # what the last removal left over is given back where it fits
        if kept[name] < len(order[name]) and math.isclose(norm, float(norms[name][order[name][kept[name]]])):
            larger = {**kept, name: kept[name] + 1}
            if graph.goal.at(larger) <= graph.goal.target:
                kept = larger
    return {name: sorted(order[name][:width]) for name, width in kept.items()}
