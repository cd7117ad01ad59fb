"""How far the small model's outputs are from the original's."""

from __future__ import annotations

from torch import Tensor


def distance(x: Tensor, wanted: Tensor) -> Tensor:
    """Mean square difference relative to the variance of what is wanted.

    Infinite values, as in masks, are left out. If a wanted value is NaN, so is the distance: the step is then skipped.
    """
    known = ~wanted.isinf()
    if not known.all():
        x, wanted = x[known], wanted[known]
    if not wanted.numel():
        return x.sum()
    return (x - wanted).square().sum() / (wanted.var(correction=0) * wanted.numel()).clamp_min(1e-8)
