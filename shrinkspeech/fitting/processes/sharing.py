"""How the processes of a fit share its batches: the model runs on the own rows, and all that follows is of the whole batch.

Outputs are put together before the loss, so that a loss may be anything: a mean, a contrast within the batch, a user's own.
Each process computes all of it, and its gradient for the own rows: summed over all processes they are those of one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.distance import distance
from shrinkspeech.fitting.processes.in_step import InStep
from shrinkspeech.fitting.processes.split import Share, Split, counted_once
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.fold import Sums


class Sharing(Sums):
    """One process that has all of every batch.

    Attributes:
        team: the processes.
    """

    def __init__(self, team: Team | None = None) -> None:
        self.team = team or Team()

    @classmethod
    def of(cls, captured: Captured, team: Team) -> Sharing:
        """
        Raises:
            ProcessError: there are several processes, and batches of the model cannot be split.
        """
        return cls(team) if team.alone else Shared(captured, team)

    def batches(self, recipe: Recipe) -> Iterator[Any]:
        """Once through the training batches of a recipe, each whole."""
        yield from recipe.train_batches()

    def own(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the model takes of a batch in this process."""
        return arguments

    def whole(self, outputs: Any) -> Any:
        """The outputs for all of the batch."""
        return outputs

    def running(self) -> AbstractContextManager[Any]:
        """Around a run of the model."""
        return nullcontext()

    def keeping(self, kept: list[Tensor], again: bool) -> AbstractContextManager[Any]:
        """Around a part of the model that is run once for its outputs and once for its gradients."""
        return nullcontext()

    def distances(self, outputs: Any, wanted: Any, but: Collection[int] = ()) -> list[Tensor]:
        """How far each real-valued output, but some by their number, is from what is wanted, over all of the batch."""
        return [distance(x, y) for _, x, y in _real_pairs(outputs, wanted, but)]


class Shared(Sharing):
    """One of several processes, which has some rows of every batch."""

    def __init__(self, captured: Captured, team: Team) -> None:
        super().__init__(team)
        self.split = Split.of(captured)
        self.mode = InStep(team, self.split.nodes)

    @property
    def share(self) -> Share:
        """The rows of the present batch."""
        return self.mode.share

    # -- batches --------------------------------------------------------------------------------------------------

    def batches(self, recipe: Recipe) -> Iterator[Any]:
        """Each process makes its own rows where the recipe can tell them apart; else all make the same batches."""
        if recipe.train_rows is not None:
            return (self._joined(rows, size) for rows, size in recipe.train_rows(self.team.rank, self.team.size))
        return self._alike(recipe)

    def _alike(self, recipe: Recipe) -> Iterator[Any]:
        """
        Raises:
            RecipeError: the processes have different batches.
        """
        for batch in recipe.train_batches():
            print_ = [zlib.crc32(_bytes(x)) for x in pytree.tree_leaves(batch) if isinstance(x, Tensor)]
            own = torch.tensor([zlib.crc32(repr(print_).encode())], dtype=torch.int64)
            found = self.team.gather(own, 0, [1] * self.team.size)
            if not bool((found == found[0]).all()):
                raise RecipeError(
                    f"train_batches() of '{recipe.name}' yields other batches in each process: seed what it draws "
                    "(generators, shuffling, workers), so that all of them have the same"
                )
            yield batch

    def _joined(self, rows: Any, size: int) -> Any:
        """The whole batch, of which each process has made some rows."""
        extents = list(self.split.share(size, self.team).extents)
        return pytree.tree_map(lambda x: self.team.gather(x, 0, extents) if isinstance(x, Tensor) else x, rows)

    # -- the model ------------------------------------------------------------------------------------------------

    def own(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self.mode.share = self.split.share(self.split.size(arguments), self.team)
        return self.split.own(arguments, self.share)

    def whole(self, outputs: Any) -> Any:
        return self.split.whole(outputs, self.share, self.team)

    def running(self) -> AbstractContextManager[Any]:
        return self.mode

    def keeping(self, kept: list[Tensor], again: bool) -> AbstractContextManager[Any]:
        return self.mode.keeping(kept, again)

    # -- sums -----------------------------------------------------------------------------------------------------

    def total(self, x: Tensor) -> Tensor:
        return self.team.sum(x)

    def merged(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for some in self.team.all(named):
            for name, x in some.items():
                found[name] = found[name] + x if name in found else x
        return found

    def spaced(self, rows: Tensor, most: int) -> Tensor:
        """Those that one process would take: counted from the first row of the batch."""
        each = len(rows) // self.share.own
        step = max(1, each * self.share.whole // most)
        return rows[-each * self.share.start % step :: step]

    def distances(self, outputs: Any, wanted: Any, but: Collection[int] = ()) -> list[Tensor]:
        """Without sending the outputs: sums are enough."""
        pairs = _real_pairs(outputs, wanted, but)
        return [self._distance(x, y, self.split.outputs[number]) for number, x, y in pairs]

    def _distance(self, x: Tensor, wanted: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return distance(counted_once(x, self.team), wanted)
        known = ~wanted.isinf()
        x, wanted = x[known], wanted[known]
        count, total = self.team.sum(torch.stack([wanted.new_tensor(float(wanted.numel())), wanted.sum()]).double())
        if not float(count):
            return x.sum()
        spread = self.team.sum((wanted.double() - total / count).square().sum()).clamp_min(1e-8)
        own = (x - wanted).square().sum() / spread.to(x.dtype)
        return own + (self.team.sum(own) - own).detach()  # its value is that of all, its slope that of the own rows


def _real_pairs(outputs: Any, wanted: Any, but: Collection[int]) -> list[tuple[int, Tensor, Tensor]]:
    """The number of each among the tensors, and both."""
    pairs = list(enumerate(zip(pytree.tree_leaves(outputs), pytree.tree_leaves(wanted), strict=True)))
    tensors = enumerate((i, x, y) for i, (x, y) in pairs if isinstance(y, Tensor))
    return [(number, x, y) for number, (i, x, y) in tensors if i not in but and y.is_floating_point()]


def _bytes(x: Tensor) -> Any:
    flat = x.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""
