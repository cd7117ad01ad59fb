"""The competing methods: each shrinks the user's original model to a share of its FLOP/s and fine-tunes it.

    METHODS[name](model, recipe, target, steps, rate, seed) -> nn.Module in eval mode, at or below the target

``Unsupported`` says why a method cannot. What each is told, and where that is documented, is in settings.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from benchmarks.quality.peers.flops import flops
from benchmarks.quality.peers.tuning import Unsupported

Method = Callable[..., nn.Module]

TORCH_PRUNING = (
    "tp-uniform-l2",
    "tp-uniform-taylor",
    "tp-global-l2",
    "tp-global-taylor",
    "tp-global-bn",
    "tp-global-groupnorm",
    "tp-uniform-taylor-iterative",
    "tp-global-taylor-iterative",
)


def _torch_pruning(name: str, *args: Any, **options: Any) -> nn.Module:
    """Imported on use: the package is not needed for the other methods."""
    tp = import_module("benchmarks.quality.peers.tp")
    found: nn.Module = tp.shrink(tp.VARIANTS[name], *args, **options)
    return found


def _module(name: str, *args: Any, **options: Any) -> nn.Module:
    found: nn.Module = import_module(f"benchmarks.quality.peers.{name}").shrink(*args, **options)
    return found


METHODS: dict[str, Method] = {
    **{name: partial(_torch_pruning, name) for name in TORCH_PRUNING},
    "scratch-uniform": partial(_module, "scratch"),
    "group-lasso": partial(_module, "lasso"),
    "fastnas": partial(_module, "fastnas"),
}
"""``scratch-uniform`` also takes ``extra``, the steps that the original was trained for, and ``scratch_rate``."""

__all__ = ["METHODS", "Method", "Unsupported", "flops"]
