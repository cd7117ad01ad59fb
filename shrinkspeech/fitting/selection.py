"""Selection: the order in which units should be kept so that the rest can be computed from them.

A matrix W reads features x with covariance Σ. Once the units in S are kept and the others are regressed on them (that is
what folding does), the error of W x is tr(F W Σ' Wᵀ), Σ' the covariance of x given x_S and F what the loss feels of an error
in each row (its mean square gradient there, an empirical Fisher information). Units are chosen one after the other, each
time the one that lowers the error most: ‖F½ W Σ'_u‖² / Σ'_uu. What is kept first is kept longest. A unit that another one
already tells is chosen late, however large its weights or gradients are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from shrinkspeech.axes.algebra import Axis, labels_of
from shrinkspeech.fitting.taylor import owners, weights_held
from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.groups.groups import Group, Groups
from shrinkspeech.rules.registry import Fold
from shrinkspeech.surgery.fold import LARGEST, Moments, Sums, collect, key

ROUNDS = 256
"""Rounds of choosing in one group at most. A group of no more units than this is ordered one by one, a larger one in lots."""

WIDER = 8
"""Candidates of a round, in multiples of the units that it chooses: only these are compared exactly."""

SEQUENTIAL = 4
"""A unit with at most so many positions is conditioned on position by position, one with more by one linear system."""

FLOOR = 1e-6
"""Share of a reader's largest variance; a position whose remaining variance is smaller counts as known."""


@dataclass
class _Reader:
    """One matrix that reads a group.

    Attributes:
        seen: W Σ', ``[rows, n]``; columns are the positions of the group.
        rest: Σ' ``[n, n]``.
        owner: the unit of each position ``[n]``.
        floor: variances below this count as none.
    """

    seen: Tensor
    rest: Tensor
    owner: Tensor
    floor: float

    def gains(self, size: int) -> Tensor:
        """By how much each unit would lower the error ``[size]``."""
        variance = self.rest.diagonal()
        each = torch.where(
            variance > self.floor, self.seen.square().sum(0) / variance.clamp_min(self.floor), torch.zeros(())
        )
        return torch.zeros(size, dtype=each.dtype).index_add_(0, self.owner, each)

    def among(self, units: Tensor) -> _Reader:
        """The same of some units alone."""
        places = torch.nonzero(torch.isin(self.owner, units)).flatten()
        return _Reader(self.seen[:, places], self.rest[places][:, places], self.owner[places], self.floor)

    def keep(self, units: Tensor) -> None:
        """What is left once some units are known."""
        positions = torch.nonzero(torch.isin(self.owner, units)).flatten()
        if len(positions) > SEQUENTIAL:
            inner = self.rest[positions][:, positions]
            known = torch.linalg.solve(inner + self.floor * torch.eye(len(positions)).to(inner), self.rest[positions])
            self.seen -= self.seen[:, positions] @ known
            self.rest -= self.rest[:, positions] @ known
            return
        for position in positions.tolist():
            variance = float(self.rest[position, position])
            if variance > self.floor:
                column = self.rest[:, position].clone()
                self.seen -= torch.outer(self.seen[:, position].clone(), column) / variance
                self.rest -= torch.outer(column, column) / variance


def selection(
    captured: Captured,
    groups: Groups,
    batches: Sequence[Any],
    inputs: Callable[[Any], tuple[Any, ...]],
    loss: Callable[[Any, Any], Tensor],
    device: torch.device | str = "cpu",
    sums: Sums | None = None,
) -> dict[str, Tensor]:
    """Score the units of every group that nothing but constant matrices reads.

    Args:
        batches: calibration data.
        inputs: the model's arguments in a batch.
        loss: of a callable on a batch; its gradients say where errors matter.
        device: where ``loss`` puts the batch.
        sums: over the processes that have the other rows of these batches.

    Returns:
        ``[size]`` for each such group: the size for the unit that is kept longest, 1 for the first to go.
    """
    found = {
        node: [item for item in effect.folds if item.axis.size <= LARGEST and groups.moves(item.axis)]
        for node, effect in groups.effects.items()
    }
    if not any(found.values()):
        return {}
    sums = sums or Sums()
    moments = collect(captured, [item for items in found.values() for item in items], map(inputs, batches), sums)
    module = captured.graph_module if str(device) == "cpu" else captured.copy().to(device)
    felt = _sensitivity(module, {node: items[0] for node, items in found.items() if items}, batches, loss)
    felt = sums.merged(felt)
    scores = {}
    for group in groups.shrinkable:
        if _read_otherwise(groups, group, found):
            continue
        readers = [
            reader
            for node, items in found.items()
            for item in items
            if node in felt
            and group.name in _names(groups, item.axis)
            and (reader := _reader(captured, groups, group, item, moments[key(item)], felt[node]))
        ]
        if readers:
            scores[group.name] = _order(readers, group.size)
    return scores


def _names(groups: Groups, axis: Axis) -> set[str]:
    return {groups.of(label).name for label in labels_of(axis)}


def _read_otherwise(groups: Groups, group: Group, found: Mapping[str, Sequence[Fold]]) -> bool:
    """Whether something else than a constant matrix mixes the units: a recurrence, a norm, a sum, a product of features."""
    for node, effect in groups.effects.items():
        known = {item.axis for item in found[node]}
        inside = effect.masked.axes if effect.masked else ()
        if any(
            group.name in _names(groups, axis)
            for axis in (*inside, *(read.axis for read in effect.reads if read.axis not in known))
        ):
            return True
    return False


def _sensitivity(
    module: fx.GraphModule, readers: Mapping[str, Fold], batches: Sequence[Any], loss: Callable[[Any, Any], Tensor]
) -> dict[str, Tensor]:
    """Square gradients of the loss in the output of each reader, summed over the batches and all places.

    Returns:
        ``[channels]``; ``[1]`` for readers of several outputs. Readers that the loss does not feel are left out.
    """
    weights = {name: attribute(module, str(item.weight.target)) for name, item in readers.items()}
    targets = {node.name: str(node.target) for node in module.graph.nodes}
    channels = {name: 1 - weight.dim() if "conv" in targets[name] else -1 for name, weight in weights.items()}
    total: dict[str, Tensor] = {}

    def add(name: str, alone: bool, gradient: Tensor) -> None:
        square = gradient.detach().float().square()  # half precision underflows
        if not bool(square.isfinite().all()):  # one batch of bad values must not decide the order
            return
        if alone:
            square = square.movedim(channels[name], 0).flatten(1).sum(1, dtype=torch.float64).cpu()
        else:
            square = square.sum(dtype=torch.float64).reshape(1).cpu()
        total[name] = total[name] + square if name in total else square

    for batch in batches:
        tape = _Tape(module, set(readers), add)
        with torch.backends.cudnn.flags(enabled=False):
            value = loss(tape, batch)
            if value.requires_grad:
                torch.autograd.grad(value, tape.leaves, allow_unused=True)
    return total


def _real(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


class _Tape(fx.Interpreter):
    """Runs the graph without gradients of the parameters; ``add`` gets the gradient of each output of some nodes.

    The outputs are handed on as copies, so the gradients are those of the values before anything changes them in place
    (an in-place change of a view would lose the hook). An output that follows from parameters or from hard decisions alone
    is where gradients end.
    """

    def __init__(self, module: fx.GraphModule, nodes: set[str], add: Callable[[str, bool, Tensor], None]) -> None:
        super().__init__(module)
        self.nodes, self.add = nodes, add
        self.leaves: list[Tensor] = []

    def __call__(self, *args: Any) -> Any:
        arguments = [x.detach().requires_grad_() if _real(x) else x for x in args]
        self.leaves = [x for x in arguments if _real(x)]
        with torch.enable_grad(), weights_held(self.module):
            return self.run(*arguments)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name not in self.nodes:
            return result
        if isinstance(result, tuple):
            return tuple(self._watched(n.name, False, x) for x in result)
        return self._watched(n.name, True, result)

    def _watched(self, name: str, alone: bool, x: Any) -> Any:
        if not _real(x):
            return x
        if not x.requires_grad:
            x = x.detach().requires_grad_()
            self.leaves.append(x)
        x.register_hook(partial(self.add, name, alone))
        return x.clone()


def _weights_of_rows(weight: Tensor, item: Fold, felt: Tensor) -> Tensor:
    """√F for each row of the matrix: for each output channel where that is known, else the same for all; ``[rows]``.

    Rows are the positions of ``weight`` in all dimensions but ``weight_dim``; the first of these is the channel.
    """
    others = [size for dim, size in enumerate(weight.shape) if dim != item.weight_dim]
    count = math.prod(others)
    if not others or len(felt) != others[0]:
        return torch.full((count,), float(felt.sum() / count) ** 0.5, dtype=torch.float64)
    return felt.sqrt().repeat_interleave(count // len(felt))


def _reader(
    captured: Captured, groups: Groups, group: Group, item: Fold, moments: Moments, felt: Tensor
) -> _Reader | None:
    """The matrix as a triangle with as many rows as positions at most; None if it reads no such unit."""
    owner = torch.tensor(owners(groups, item.axis, group))
    places = torch.nonzero(owner >= 0).flatten()
    if not len(places):
        return None
    mean = moments.total / moments.rows
    covariance = (moments.square / moments.rows - torch.outer(mean, mean))[places][:, places]
    weight = attribute(captured.graph_module, str(item.weight.target)).detach()
    rows = weight.movedim(item.weight_dim, -1).reshape(-1, weight.shape[item.weight_dim]).double().cpu()[:, places]
    rows = rows * _weights_of_rows(weight, item, felt)[:, None]
    if len(rows) > rows.shape[1]:
        rows = torch.linalg.qr(rows, mode="r").R
    seen = rows @ covariance
    floor = FLOOR * float(covariance.diagonal().max())
    return _Reader(seen, covariance, owner[places], floor) if floor > 0 else None


def _order(readers: list[_Reader], size: int) -> Tensor:
    """Forward selection over all readers at once; units without gain come last, in their own order.

    In large groups a few units are chosen in each round, one after the other among those of highest gain.
    """
    score, left = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.bool)
    batch, place = max(1, size // ROUNDS), size
    while place:
        candidates = _best(readers, left)[: WIDER * batch]
        near = [reader.among(candidates) for reader in readers]
        chosen = []
        for _ in range(min(batch, place)):
            unit = _best(near, left)[:1]
            score[unit], left[unit] = place, False
            place -= 1
            chosen.append(unit)
            for reader in near:
                reader.keep(unit)
        for reader in readers:
            reader.keep(torch.cat(chosen))
    return score


def _best(readers: list[_Reader], left: Tensor) -> Tensor:
    """Units that are left, by what they would lower the error."""
    gains = torch.stack([reader.gains(len(left)) for reader in readers]).sum(0)
    return torch.where(left, gains, -1.0).argsort(descending=True, stable=True)[: int(left.sum())]
