"""Which rows of a batch are whose: every process runs the model on some of them, and has the outputs of all.

A batch may be split if the model gives the same for its parts as for the whole. That is tried once: on four items, together
and in two parts. It shows also in which dimension the rows of every input, output and node lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.errors import ProcessError, ShrinkSpeechError
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.graph.batch import tied
from shrinkspeech.graph.captured import Axis, Captured, with_shapes
from shrinkspeech.graph.compare import distance, seeded, tensors_of
from shrinkspeech.graph.proof import TOLERANCE
from shrinkspeech.graph.sizes import resized, size_at
from shrinkspeech.processes import cut

ITEMS = 4
"""Items of the batch that is tried."""

WAY_OUT = "start one process alone, which --accumulate gives as large a batch"

Place = tuple[int, int]


@dataclass(frozen=True)
class Share:
    """The rows of one process in a batch.

    Attributes:
        extents: rows of every process, in their order.
    """

    extents: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, rows: int, team: Team) -> Share:
        """As many rows for each process as for any other, or one fewer."""
        return cls(tuple(end - start for start, end in cut(rows, team.size)), team.rank)

    @property
    def start(self) -> int:
        return sum(self.extents[: self.rank])

    @property
    def own(self) -> int:
        return self.extents[self.rank]

    @property
    def whole(self) -> int:
        return sum(self.extents)

    def rows(self, x: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a dimension that holds all rows, each as often as the others."""
        each = x.shape[dim] // self.whole
        return x.narrow(dim, each * self.start, each * self.own)


@dataclass(frozen=True)
class Split:
    """Where the rows of a batch are.

    Attributes:
        places: inputs and the dimensions of them that hold rows.
        outputs: of every output tensor the dimension that holds rows; None where it hangs on none.
        nodes: the same of the first tensor that each node of the graph gives, where it holds rows.
        least: rows that the model takes at least.
    """

    places: Sequence[Place]
    outputs: Sequence[int | None]
    nodes: Mapping[str, int]
    least: int

    @classmethod
    def of(cls, captured: Captured) -> Split:
        """
        Raises:
            ProcessError: batches of this model cannot be split.
        """
        leaves = pytree.tree_leaves(captured.example_inputs)
        first = next((i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.dim() > 1), None)
        if first is None or 0 not in captured.dynamic[first]:
            size = "one size" if first is None else f"{size_at(captured, (first, 0))} items"
            raise ProcessError(
                f"the model takes batches of {size} alone, which several processes cannot share: {WAY_OUT}"
            )
        try:
            return _tried(captured, tied(captured, (first, 0)), 1)
        except ShrinkSpeechError:  # some models do not take one item alone
            return _tried(captured, tied(captured, (first, 0)), 2)

    def share(self, rows: int, team: Team) -> Share:
        """
        Raises:
            ProcessError: there are too few rows for so many processes.
        """
        share = Share.of(rows, team)
        if min(share.extents) < self.least:
            raise ProcessError(
                f"a batch of {rows} items is too small for {team.size} processes, each of which needs {self.least}: raise "
                "--batch-size (or what train_batches() yields), or start fewer processes"
            )
        return share

    def size(self, arguments: tuple[Any, ...]) -> int:
        """Rows of a batch."""
        index, dim = self.places[0]
        return int(pytree.tree_leaves(arguments)[index].shape[dim])

    def own(self, arguments: tuple[Any, ...], share: Share) -> tuple[Any, ...]:
        """The rows of one process."""
        leaves, spec = pytree.tree_flatten(arguments)
        for index, dim in self.places:
            leaves[index] = share.rows(leaves[index], dim).contiguous()
        return tuple(pytree.tree_unflatten(leaves, spec))

    def whole(self, outputs: Any, share: Share, team: Team) -> Any:
        """The outputs for all rows. Gradients go to the own rows: their sum over all processes is that of the whole."""
        leaves, spec = pytree.tree_flatten(outputs)
        dims = iter(self.outputs)
        whole = [_gathered(x, next(dims), share, team) if isinstance(x, Tensor) else x for x in leaves]
        return pytree.tree_unflatten(whole, spec)


class _Gathered(torch.autograd.Function):
    """The rows of all processes; the gradient is that of the own ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, share: Share, team: Team) -> Tensor:
        ctx.dim, ctx.share = dim, share
        each = x.shape[dim] // share.own
        return team.gather(x, dim, [each * extent for extent in share.extents])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.share.rows(gradients[0], ctx.dim).contiguous(), None, None, None


def _gathered(x: Tensor, dim: int | None, share: Share, team: Team) -> Tensor:
    if dim is not None:
        gathered: Tensor = _Gathered.apply(x, dim, share, team)
        return gathered
    return counted_once(x, team) if x.requires_grad else x


def counted_once(x: Tensor, team: Team) -> Tensor:
    """What every process has all of, with its part of the slope."""
    return x / team.size + (x - x / team.size).detach()


def _tried(captured: Captured, places: Sequence[Place], first: int) -> Split:
    """The split, if the ``first`` of some items and the others give what all give together."""
    inputs = resized(captured, {Axis(tuple(places)): ITEMS})
    parts = []
    for start, end in ((0, first), (first, ITEMS)):
        leaves, spec = pytree.tree_flatten(inputs)
        for index, dim in places:
            leaves[index] = leaves[index][(slice(None),) * dim + (slice(start, end),)].contiguous()
        parts.append(tuple(pytree.tree_unflatten(leaves, spec)))
    graph = captured.graph_module
    try:
        whole = tensors_of(seeded(graph, inputs))
        some = [tensors_of(seeded(graph, part)) for part in parts]
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ProcessError(
            f"the model fails on a part of a batch ({reason}), and several processes cannot share it: {WAY_OUT}"
        ) from error
    outputs = [_rows(i, x, some[0][i], some[1][i]) for i, x in enumerate(whole)]
    shapes = [with_shapes(replace(captured, example_inputs=given)).shapes for given in (inputs, parts[1])]
    found = {name: _differing(sizes[0], shapes[1][name][0]) for name, sizes in shapes[0].items() if sizes}
    nodes = {name: dims[0] for name, dims in found.items() if len(dims) == 1}
    return Split(tuple(places), outputs, nodes, first)


def _rows(index: int, whole: Tensor, one: Tensor, other: Tensor) -> int | None:
    """The dimension of an output that holds the rows."""
    dims = _differing(whole.shape, other.shape)
    if not dims and distance(one, whole) <= TOLERANCE and distance(other, whole) <= TOLERANCE:
        return None
    if len(dims) == 1 and distance(torch.cat([one, other], dims[0]), whole) <= TOLERANCE:
        return dims[0]
    raise ProcessError(
        f"output {index} of the model for a batch is not made of those for its items, so that several processes cannot share "
        f"it: {WAY_OUT}"
    )


def _differing(one: Sequence[int], other: Sequence[int]) -> list[int]:
    if len(one) != len(other):
        return []
    return [dim for dim, (size, less) in enumerate(zip(one, other, strict=True)) if size != less]
