"""What knows of the whole batch inside a model: batch statistics, and random numbers. With some rows alone, it asks the others.

All processes have the same random numbers: each draws those of the whole batch and takes its rows of them, so that the
generators stay where they would be in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from shrinkspeech.fitting.processes.split import Share
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.rules.masked import Dims, Keeps, batch_moments, weights
from shrinkspeech.surgery.noise import level, noise_like

aten = torch.ops.aten

DROPOUTS = (aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default, aten.feature_dropout_.default)

Kept = list[Tensor]


class InStep(TorchFunctionMode):
    """Around the run of a model on the rows of one process.

    Args:
        nodes: of the nodes of the graph the dimension that holds rows.

    Attributes:
        share: the rows of the present batch.
    """

    def __init__(self, team: Team, nodes: Mapping[str, int]) -> None:
        super().__init__()
        self.team, self.nodes = team, nodes
        self.share = Share((1,), 0)
        self._kept: Kept | None = None
        self._again: Iterator[Tensor] | None = None

    @contextmanager
    def keeping(self, kept: Kept, again: bool) -> Iterator[None]:
        """Around a part of the model that is computed twice: what the others said the first time is not asked again."""
        self._kept, self._again = (None, iter(kept)) if again else (kept, None)
        try:
            if again:
                with self:
                    yield
            else:
                yield
        finally:
            self._kept = self._again = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is level:
            return self._level(*args)
        if func is noise_like:
            return self._noise(*args)
        if func is batch_moments:
            return self._moments(*args)
        if func is aten.batch_norm.default and args[5]:
            return self._batch_norm(*args)
        if func is aten.instance_norm.default and args[5]:
            return self._instance_norm(*args)
        if func in DROPOUTS and args[2] and args[1] > 0:
            return self._dropout(func, *args)
        if _draws(func, args, given):
            return self._apart(func, args, given)
        return func(*args, **given)

    # -- statistics -----------------------------------------------------------------------------------------------

    def _sum(self, x: Tensor) -> Tensor:
        """Over all processes, without a gradient."""
        if self._again is not None:
            return next(self._again)
        total = self.team.sum(x)
        if self._kept is not None:
            self._kept.append(total)
        return total

    def _level(self, part: Tensor, dim: int) -> Tensor:
        others = max(part.numel() // part.shape[dim], 1)
        power = level(part, dim).square() * others
        total = self._sum(power)
        return (total / (others / self.share.own * self.share.whole)).sqrt()

    def _moments(self, x: Tensor, keeps: Keeps, dims: Dims) -> tuple[Tensor, Tensor, Tensor]:
        """As ``masked.moments``, over the rows of all."""
        weight = weights(x, keeps, dims)
        total = _summed(weight.expand_as(x).sum(dims, keepdim=True), self.team).clamp_min(1e-6)
        mean = _summed((x * weight).sum(dims, keepdim=True), self.team) / total
        square = _summed(((x - mean).square() * weight).sum(dims, keepdim=True), self.team)
        return mean, square / total, total

    def _batch_norm(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
        *_: Any,
    ) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        count = x.numel() // x.shape[1] // self.share.own * self.share.whole
        mean = _summed(wide.sum(dims), self.team) / count
        centred = wide - mean.view(shape)
        variance = _summed(centred.square().sum(dims), self.team) / count
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean), momentum)
            if running_var is not None:
                running_var.lerp_((variance * (count / max(count - 1, 1))).to(running_var), momentum)
        y = centred * (variance + eps).rsqrt().view(shape)
        y = y if weight is None else y * weight.view(shape)
        return (y if bias is None else y + bias.view(shape)).to(x.dtype)

    def _instance_norm(self, *args: Any) -> Tensor:
        """Each item has statistics of its own; the running ones are those of all items."""
        y: Tensor = aten.instance_norm.default(*args)
        with torch.no_grad():
            for running in args[3:5]:
                if running is not None:
                    running.copy_(self.team.sum(running * self.share.own) / self.share.whole)
        return y

    # -- random numbers -------------------------------------------------------------------------------------------

    def _rows_of(self, x: Tensor, avoid: int | None, node: str, draw: Callable[[list[int]], Tensor]) -> Tensor:
        """The own rows of what is drawn for the batch."""
        dims = [dim for dim, size in enumerate(x.shape) if size and size % self.share.own == 0 and dim != avoid]
        dim = self.nodes.get(node, dims[0] if dims else None)
        if dim is None:
            return draw(list(x.shape))
        shape = [size // self.share.own * self.share.whole if i == dim else size for i, size in enumerate(x.shape)]
        return self.share.rows(draw(shape), dim)

    def _noise(self, part: Tensor, dim: int, node: str) -> Tensor:
        return self._rows_of(part, dim, node, lambda shape: torch.randn(shape, dtype=part.dtype, device=part.device))

    def _dropout(self, func: Any, x: Tensor, rate: float, train: bool) -> Tensor:
        kind = aten.feature_dropout.default if "feature" in str(func) else aten.dropout.default
        mask = self._rows_of(x, None, "", lambda shape: kind(x.new_ones(shape), rate, True))
        return x.mul_(mask) if str(func).endswith("_.default") else x * mask

    def _apart(self, func: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """Other random operators draw numbers of their own in each process, from a seed that all have drawn."""
        seed = int(torch.randint(2**62, ())) + self.team.rank
        devices = [self.team.device] if self.team.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            return func(*args, **given)


class _Sum(torch.autograd.Function):
    """A sum over all processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Team) -> Tensor:
        ctx.team = team
        return team.sum(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.team.sum(gradients[0]), None


def _summed(x: Tensor, team: Team) -> Tensor:
    total: Tensor = _Sum.apply(x, team)
    return total


def _draws(func: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether an operator of the graph draws random numbers, as it is called."""
    if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
        return False
    names = [item.name for item in func._schema.arguments]
    known = {**dict(zip(names, args, strict=False)), **given}
    if "dropout_p" in names:
        return bool(known.get("dropout_p", 0.0))
    if "num_layers" in names:  # recurrent layers drop between layers alone, and here each has one
        return bool(known.get("train")) and known.get("num_layers", 1) > 1 and known.get("dropout", 0.0) > 0
    train = known.get("train", known.get("training", True))
    return bool(train) and known.get("p", 1.0) != 0
