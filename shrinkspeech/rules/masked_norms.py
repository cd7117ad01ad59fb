"""Norms that take their statistics over kept units alone, with the arguments of the operators that they stand for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shrinkspeech.rules.masked import Keeps, batch_moments, moments, weights


def affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift each channel (axis 1)."""
    shape = (1, -1, *([1] * (y.dim() - 2)))
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def layer_norm(
    keeps: Keeps,
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    dims = list(range(x.dim() - len(shape), x.dim()))
    centre, deviation, _total = moments(x, keeps, dims)
    y = (x - centre) * (deviation + eps).rsqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(keeps: Keeps, x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    dims = list(range(x.dim() - len(shape), x.dim()))
    factor = weights(x, keeps, dims)
    total = factor.expand_as(x).sum(dims, keepdim=True).clamp_min(1e-6)
    power = (x.square() * factor).sum(dims, keepdim=True) / total
    y = x * (power + (torch.finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return y if weight is None else y * weight


def group_norm(
    keeps: Keeps,
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """``keeps``: of the channels inside a group ``[C / groups]``, which all groups share, then of each spatial axis."""
    parts = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    centre, deviation, _total = moments(parts, keeps, list(range(2, parts.dim())))
    return affine(((parts - centre) * (deviation + eps).rsqrt()).reshape(x.shape), weight, bias)


def batch_norm(
    keeps: Keeps,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor:
    """``keeps``: of every axis but the channels'."""
    if not training:
        return torch.batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn)
    dims = [dim for dim in range(x.dim()) if dim != 1]
    return _normalised(keeps, dims, x, weight, bias, running_mean, running_var, momentum, eps)


def instance_norm(
    keeps: Keeps,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor:
    """``keeps``: of the spatial axes."""
    if not use_input_stats:
        return torch.instance_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn)
    return _normalised(keeps, list(range(2, x.dim())), x, weight, bias, running_mean, running_var, momentum, eps)


def _normalised(
    keeps: Keeps,
    dims: list[int],
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Centred and scaled over ``dims``; the running statistics move towards what was found, averaged over the batch."""
    centre, deviation, total = (batch_moments if 0 in dims else moments)(x, keeps, dims)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(_of_channels(centre).to(running_mean), momentum)
        if running_var is not None:
            unbiased = deviation * total / (total - 1).clamp_min(1e-6)
            running_var.lerp_(_of_channels(unbiased).to(running_var), momentum)
    return affine((x - centre) * (deviation + eps).rsqrt(), weight, bias)


def _of_channels(statistics: Tensor) -> Tensor:
    """``[B or 1, C, 1, …]`` → ``[C]``."""
    return statistics.detach().transpose(0, 1).flatten(1).mean(1)
