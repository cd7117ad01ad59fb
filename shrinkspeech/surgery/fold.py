"""Folding: what is removed is regressed on what stays, and its weights are added to theirs. No training.

At every constant matrix that reads a group, with x_r the removed and x_k the kept features on calibration inputs:
x_r ≈ M x_k + b (least squares with a ridge), so W_k += W_r M and the bias += W_r b.

Behind dropout of rate p a matrix reads x_k · d / (1 − p) in training, d its mask. The error of the regression is then larger
by Σ_k M_k² · E[x_k²] · p / (1 − p), which is a ridge of its own for each feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.graph.modes import FLAGS, operator_of
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Fold

aten = torch.ops.aten

LARGEST = 4096
"""Axes with more elements than this are not folded, since a matrix of their second moments would take too much memory."""

ROWS = 20_000
"""Feature vectors that one batch contributes at most; of more, evenly spaced ones are taken."""

CHUNK = 4096
"""Feature vectors that are multiplied at a time, so that memory stays bounded."""

RIDGE = 1e-3
"""Added to the diagonal of the second moments, as a share of its mean, so that the regression has one answer."""

MOST_DROPPED = 0.99
"""The largest rate of dropout that is reckoned with: at a rate of 1 its ridge would be infinite."""

DROPOUTS = tuple(operator for operator in FLAGS if "dropout" in str(operator))
"""Operators that drop elements while the graph is in training mode."""

TRANSPARENT = (
    *(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints, aten.unflatten.int),
    *(aten.permute.default, aten.transpose.int, aten.squeeze.dims, aten.unsqueeze.default, aten.clone.default),
    *(aten.contiguous.default, aten.relu.default, aten.leaky_relu.default),
)
"""Operators that pass a dropped element on as a dropped one."""


class Sums:
    """How sums over a batch are made in a process that has all of its rows; one of several that share them has another."""

    def total(self, x: Tensor) -> Tensor:
        """The sum over all processes of what each has summed."""
        return x

    def merged(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums by name over all processes; one may lack some of the names."""
        return named

    def spaced(self, rows: Tensor, most: int) -> Tensor:
        """Every n-th of some rows, so that at most about twice as many as ``most`` are left."""
        return rows[:: max(1, len(rows) // most)]


@dataclass
class Moments:
    """Sums over feature vectors x ``[n]``: x xᵀ, x, and their number."""

    square: Tensor
    total: Tensor
    rows: int = 0

    def add(self, x: Tensor) -> None:
        self.square += x.T @ x
        self.total += x.sum(0)
        self.rows += len(x)


def fold(
    captured: Captured,
    groups: Groups,
    kept: Mapping[str, Sequence[int]],
    inputs: Iterable[tuple[Any, ...]],
    sums: Sums | None = None,
) -> Captured:
    """The captured graph, unsliced, with weights that miss as little as possible once it is sliced to ``kept``.

    Args:
        inputs: calibration inputs, one tuple of model arguments for each batch.
        sums: over the processes that have the other rows of these batches.
    """
    work = _readers(captured, groups, kept)
    module = captured.copy()
    result = replace(captured, graph_module=module)
    if not work:
        return result
    moments = collect(captured, work, inputs, sums)
    with torch.no_grad():
        for item in work:
            _apply(module, item, groups.kept_index(item.axis, kept), moments[key(item)])
    return result


def collect(
    captured: Captured, work: Sequence[Fold], inputs: Iterable[tuple[Any, ...]], sums: Sums | None = None
) -> dict[tuple[str, int | None, int], Moments]:
    """Second moments of the features that matrices read, by ``key``, over calibration inputs."""
    sums = sums or Sums()
    collector = _Collector(captured.graph_module, work, sums)
    with torch.no_grad():
        for arguments in inputs:
            collector.run(*arguments)
    for found in collector.moments.values():
        found.square, found.total = sums.total(found.square), sums.total(found.total)
        found.rows = int(sums.total(torch.tensor(found.rows)))
    return collector.moments


def key(item: Fold) -> tuple[str, int | None, int]:
    return item.feature.name, item.output, item.dim


def _readers(captured: Captured, groups: Groups, kept: Mapping[str, Sequence[int]]) -> list[Fold]:
    """Matrices used once that meet an axis of which something is removed, and that their owner did not freeze."""
    users = {node.target: len(node.users) for node in captured.graph_module.graph.nodes if node.op == "get_attr"}
    found = [item for effect in groups.effects.values() for item in effect.folds]
    return [
        item
        for item in found
        if users.get(item.weight.target) == 1
        and all(_is_open(captured, node) for node in (item.weight, item.bias) if node is not None)
        and item.axis.size <= LARGEST
        and len(groups.kept_index(item.axis, kept)) < item.axis.size
    ]


def _is_open(captured: Captured, node: fx.Node) -> bool:
    """Whether a tensor may change: a parameter that its owner did not freeze. Tables in buffers (filter banks) may not."""
    tensor = attribute(captured.graph_module, str(node.target))
    return isinstance(tensor, nn.Parameter) and tensor.requires_grad


class _Collector(fx.Interpreter):
    """Runs the graph and sums second moments of the features that are read."""

    def __init__(self, module: fx.GraphModule, work: Sequence[Fold], sums: Sums) -> None:
        super().__init__(module)
        self.sums = sums
        self.by_node: dict[str, list[Fold]] = {}
        self.moments: dict[tuple[str, int | None, int], Moments] = {}
        for item in work:
            if key(item) not in self.moments:
                size = item.axis.size
                self.moments[key(item)] = Moments(torch.zeros(size, size).double(), torch.zeros(size).double())
                self.by_node.setdefault(item.feature.name, []).append(item)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        for item in self.by_node.get(n.name, ()):
            value = result if item.output is None else result[item.output]
            rows = value.movedim(item.dim, -1).reshape(-1, item.axis.size)
            for some in self.sums.spaced(rows, ROWS).split(CHUNK):
                self.moments[key(item)].add(some.double().cpu())
        return result


def dropout_before(feature: fx.Node) -> float:
    """Rate of the dropout that stands between a feature and whatever computes it, of several together; 0 if there is none."""
    kept, node = 1.0, feature
    while operator_of(node) in (*DROPOUTS, *TRANSPARENT):
        if operator_of(node) in DROPOUTS:
            kept *= 1.0 - float(node.args[1])  # type: ignore[arg-type]
        [node] = node.all_input_nodes[:1]
    return 1.0 - kept


def _apply(module: fx.GraphModule, item: Fold, keep: list[int], moments: Moments) -> None:
    """Add the removed columns' weights, times the regression, to the kept ones'."""
    weight = attribute(module, str(item.weight.target))
    bias = None if item.bias is None else attribute(module, str(item.bias.target))
    gone = sorted(set(range(item.axis.size)) - set(keep))
    dropped = min(dropout_before(item.feature), MOST_DROPPED)
    mean = moments.total / moments.rows if bias is not None else torch.zeros_like(moments.total)
    second = moments.square / moments.rows - torch.outer(mean, mean)
    inner = second[keep][:, keep]
    ridge = (RIDGE * inner.diagonal().mean().clamp_min(1e-12)).expand(len(keep)).clone()
    ridge += dropped / (1 - dropped) * (moments.square.diagonal() / moments.rows)[keep]
    solution = torch.linalg.solve(inner + ridge.diag(), second[keep][:, gone]).T
    columns = weight.detach().movedim(item.weight_dim, -1).double().cpu()
    columns[..., keep] += columns[..., gone] @ solution
    weight.data = columns.movedim(-1, item.weight_dim).to(weight).contiguous()
    if bias is not None:
        offset = mean[gone] - solution @ mean[keep]
        added = (columns[..., gone] @ offset).flatten(1).sum(1) if columns.dim() > 2 else columns[..., gone] @ offset
        bias.data = bias.detach() + added.to(bias)
