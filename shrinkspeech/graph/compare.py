"""How far two outputs are apart: the one measure behind every parity check, and runs that can be compared."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.graph.state import undisturbed

SMALLEST_SCALE = 1e-6
"""Outputs smaller than this are compared as if they were this large."""


def distance(found: Tensor, wanted: Tensor, nan_agrees: bool = False) -> float:
    """Largest difference, relative to the largest finite value wanted; infinite where shapes or infinities differ.

    Args:
        nan_agrees: two values that are no number agree: for a graph against its own model, not for what is to be used.
    """
    if found.shape != wanted.shape:
        return math.inf
    x, y = _real(found), _real(wanted)
    apart = ~((x == y) | (x.isnan() & y.isnan() & nan_agrees))
    if not bool(apart.any()):
        return 0.0
    worst = float((x[apart] - y[apart]).abs().max())
    if not math.isfinite(worst):
        return math.inf
    finite = y[y.isfinite()].abs()
    return worst / max(float(finite.max()) if finite.numel() else 0.0, SMALLEST_SCALE)


def _real(x: Tensor) -> Tensor:
    x = x.detach().cpu()
    return torch.view_as_real(x.resolve_conj()).double() if x.is_complex() else x.double()


def is_sound(outputs: Sequence[Tensor]) -> bool:
    """Whether outputs can be used: every tensor has finite values, and beside them -inf at most, which is the log of 0."""
    return all(
        bool((x.isfinite() | x.isneginf()).all() and x.isfinite().any()) for x in map(_real, outputs) if x.numel()
    )


def tensors_of(nest: Any) -> list[Tensor]:
    """The tensors among nested outputs or inputs."""
    return [x for x in pytree.tree_leaves(nest) if isinstance(x, Tensor)]


def max_difference(found: Any, wanted: Any, nan_agrees: bool = False) -> float:
    """The largest ``distance`` between the tensors of two nests; infinite where their numbers differ."""
    first, second = tensors_of(found), tensors_of(wanted)
    if len(first) != len(second):
        return math.inf
    return max((distance(x, y, nan_agrees) for x, y in zip(first, second, strict=True)), default=0.0)


def seeded(model: nn.Module, inputs: tuple[Any, ...], seed: int = 0, run: Callable[..., Any] | None = None) -> Any:
    """What a model returns for copies of the inputs, without gradients; what it draws at random is always the same.

    Its buffers hold afterwards what they held before. Attention takes the path that it takes in training, which is the one
    that is captured.

    Args:
        run: called in place of the model.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), undisturbed(model), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return (run or model)(*copy.deepcopy(inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
