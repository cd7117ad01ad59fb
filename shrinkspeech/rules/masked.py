"""Forms of channel-mixing operators that compute on kept units only.

Each takes ``keeps``: for each reduced dimension a soft keep vector in [0, 1], or None where everything is kept.
A unit with keep a counts as the a-th part of an element; at keeps of 0 and 1 the result is that of the operator
on the kept units alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

Keeps = Sequence[Tensor | None]
Dims = list[int]


def weights(x: Tensor, keeps: Keeps, dims: Dims) -> Tensor:
    """The keeps as one factor that broadcasts against ``x`` (outer product over ``dims``)."""
    result = x.new_ones(())
    for keep, dim in zip(keeps, dims, strict=True):
        if keep is not None:
            shape = [1] * x.dim()
            shape[dim] = -1
            result = result * keep.to(x.dtype).view(shape)
    return result


def moments(x: Tensor, keeps: Keeps, dims: Dims) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean, weighted mean square deviation (kept dims), and the summed weight."""
    weight = weights(x, keeps, dims)
    total = weight.expand_as(x).sum(dims, keepdim=True).clamp_min(1e-6)
    mean = (x * weight).sum(dims, keepdim=True) / total
    centred = x - mean
    return mean, (centred.square() * weight).sum(dims, keepdim=True) / total, total


def batch_moments(x: Tensor, keeps: Keeps, dims: Dims) -> tuple[Tensor, Tensor, Tensor]:
    """``moments`` over the batch, too. A ``TorchFunctionMode`` may answer instead, where other rows are elsewhere."""
    if has_torch_function((x,)):
        return handle_torch_function(batch_moments, (x,), x, keeps, dims)
    return moments(x, keeps, dims)


def drop(x: Tensor, dims: Dims, keepdim: bool) -> Tensor:
    return x if keepdim else x.squeeze(tuple(dims))


def mean(keeps: Keeps, dims: Dims, keepdim: bool, x: Tensor) -> Tensor:
    return drop(moments(x, keeps, dims)[0], dims, keepdim)


def variance(keeps: Keeps, dims: Dims, keepdim: bool, correction: float, root: bool, x: Tensor) -> Tensor:
    _, deviation, total = moments(x, keeps, dims)
    value = deviation * total / (total - correction).clamp_min(1e-6)
    return drop(power(value, 0.5) if root else value, dims, keepdim)


def power(value: Tensor, exponent: float) -> Tensor:
    """``value`` ≥ 0 to a power, with a slope of 0 at 0: that of a root has no number."""
    positive = value > 0
    return torch.where(positive, value, 1.0).pow(exponent).where(positive, 0.0)


def shift(x: Tensor, keeps: Keeps, dims: Dims) -> Tensor:
    """``x`` plus the logarithm of the keeps: closed units weigh nothing in an exponential."""
    return x + weights(x, keeps, dims).clamp_min(1e-30).log().clamp_min(torch.finfo(x.dtype).min / 4)


def softmax(keeps: Keeps, dim: int, log: bool, x: Tensor) -> Tensor:
    shifted = shift(x, keeps, [dim]).masked_fill(weights(x, keeps, [dim]) == 0, -torch.inf)
    return shifted.log_softmax(dim).masked_fill(shifted == -torch.inf, 0.0) if log else shifted.softmax(dim)


def logsumexp(keeps: Keeps, dims: Dims, keepdim: bool, x: Tensor) -> Tensor:
    shifted = shift(x, keeps, dims).masked_fill(weights(x, keeps, dims) == 0, -torch.inf)
    return shifted.logsumexp(list(dims), keepdim)


def product(keeps: Keeps, dims: Dims, keepdim: bool, x: Tensor) -> Tensor:
    """A closed unit is a factor of 1."""
    factors = 1 + weights(x, keeps, dims) * (x - 1)
    for dim in dims:
        factors = factors.prod(dim, keepdim=True)
    return drop(factors, dims, keepdim)


def extreme(keeps: Keeps, dims: Dims, keepdim: bool, largest: bool, x: Tensor) -> Tensor:
    """The largest (or smallest) over units that are kept at all."""
    closed = weights(x, keeps, dims) == 0
    if largest:
        return x.masked_fill(closed, -torch.inf).amax(dims, keepdim)
    return x.masked_fill(closed, torch.inf).amin(dims, keepdim)


def norm(keeps: Keeps, dims: Dims, keepdim: bool, order: float, x: Tensor) -> Tensor:
    value = (x.abs().pow(order) * weights(x, keeps, dims)).sum(dims, keepdim=True)
    return drop(power(value, 1 / order), dims, keepdim)
