"""Gates: a layer's width as a real number that gradient descent can move.

A group of N units has a width K and a rank r_u for each unit. With a window w ≥ 1, unit u is kept to the degree
a_u = clip((K − r_u + (w − 1)/2) / w, 0, 1), and where it is read the feature x_u becomes
√a_u · x_u + √(1 − a_u) · σ_u · ν with ν ~ N(0, 1) and σ_u the RMS of x_u: its power stays and the information that it
carries falls (arXiv 2601.13704, with w = 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.axes import Axis, evaluate
from shrinkspeech.groups import Groups
from shrinkspeech.rules.registry import Masked

ROUNDING = 1e-6
"""A width is stored as a share of the size; a whole width that comes back a hair above or below is whole."""

SMALLEST_KEEP = 1e-4
"""Below this the square root's slope is not followed."""


def amplitude(keep: Tensor) -> Tensor:
    """√a, exactly 0 and 1 at the ends, with a bounded slope."""
    return keep.clamp_min(SMALLEST_KEEP).sqrt() * (keep > 0)


class Widths(nn.Module):
    """Width, ranks and window of every group that may shrink.

    ``fractions [groups]`` is the trainable parameter: width / size. ``ranks`` holds for each group the place of each
    unit, 0 = kept longest.
    """

    def __init__(self, groups: Groups) -> None:
        super().__init__()
        self.groups = groups
        self.names = [group.name for group in groups.shrinkable]
        self.position = {name: i for i, name in enumerate(self.names)}
        sizes = [group.size for group in groups.shrinkable]
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.float64), persistent=False)
        lowest = torch.tensor([float(group.min_width) for group in groups.shrinkable], dtype=torch.float64)
        self.register_buffer("lowest", lowest, persistent=False)
        self.register_buffer(
            "ranks", torch.cat([torch.arange(size) for size in sizes] or [torch.zeros(0, dtype=torch.long)])
        )
        self.offsets = [0, *torch.tensor(sizes or [0]).cumsum(0).tolist()]
        self.fractions = nn.Parameter(torch.ones(len(sizes), dtype=torch.float64))
        self.window = 1.0
        self.noise = True
        self.overrides: dict[str, Tensor] = {}
        self._cache: dict[Axis, Tensor | None] = {}
        self._keeps: dict[str, Tensor | None] = {}

    sizes: Tensor
    lowest: Tensor
    ranks: Tensor

    @property
    def real(self) -> Tensor:
        """Widths ``[groups]``, real, between the smallest width and the size."""
        return (self.fractions * self.sizes).clamp(min=self.lowest, max=self.sizes)

    def rank(self, name: str) -> Tensor:
        """Places of the units of one group ``[size]``."""
        i = self.position[name]
        return self.ranks[self.offsets[i] : self.offsets[i + 1]]

    def set_rank(self, name: str, scores: Tensor) -> None:
        """Rank units by importance: the highest score is kept longest; ties keep their order."""
        order = torch.argsort(scores, descending=True, stable=True)
        i = self.position[name]
        self.ranks[self.offsets[i] : self.offsets[i + 1]][order] = torch.arange(len(order), device=order.device)

    def set(self, widths: Mapping[str, float]) -> None:
        """Set widths by hand; a group that is not named keeps its own.

        Raises:
            KeyError: no group of that name may shrink.
        """
        with torch.no_grad():
            for name, value in widths.items():
                i = self.position[name]
                self.fractions[i] = float(value) / float(self.sizes[i])
        self.refresh()

    def integers(self) -> dict[str, int]:
        """Widths rounded to whole units."""
        return {name: int(value) for name, value in zip(self.names, self.real.round().tolist(), strict=True)}

    def kept(self, widths: Mapping[str, int]) -> dict[str, list[int]]:
        """Units that remain at integer widths: those of lowest rank, in their own order."""
        return {name: torch.nonzero(self.rank(name) < width).flatten().tolist() for name, width in widths.items()}

    def refresh(self) -> None:
        """Compute every keep vector anew; called once for each forward pass."""
        self._cache = {}
        self._keeps = dict.fromkeys(self.names)
        real = self.real
        values = real.detach().tolist()
        for i, name in enumerate(self.names):
            if name in self.overrides:
                self._keeps[name] = self.overrides[name]
            elif values[i] < float(self.sizes[i]):
                size = self.offsets[i + 1] - self.offsets[i]
                window = max(1.0, min(self.window, 2 * values[i], 2 * (size - values[i])))
                keep = ((real[i] - self.rank(name) + (window - 1) / 2) / window).clamp(0, 1)
                self._keeps[name] = torch.where(
                    keep < ROUNDING, 0.0, torch.where(keep > 1 - ROUNDING, 1.0, keep)
                ).float()

    def keep(self, axis: Axis) -> Tensor | None:
        """The soft keep vector ``[size]`` of an axis; None where every unit is whole."""
        if axis not in self._cache:
            self._cache[axis] = self._evaluate(axis)
        return self._cache[axis]

    def _evaluate(self, axis: Axis) -> Tensor | None:
        open_ = True

        def label(found: Any) -> Tensor:
            nonlocal open_
            keep = self._keeps.get(self.groups.of(found).name)
            if keep is None:
                return self.sizes.new_ones(found.size, dtype=torch.float32)
            open_ = False
            return keep

        vector = evaluate(
            axis,
            label,
            lambda size: self.sizes.new_ones(size, dtype=torch.float32),
            lambda a, b: torch.outer(a, b).flatten(),
            lambda parts: torch.cat(list(parts)),
        )
        return None if open_ else vector


class Gate(nn.Module):
    """The switch where an axis is read: ``x → √a·x + √(1 − a)·σ·ν`` on dimension ``dim``."""

    def __init__(self, widths: Widths, axis: Axis, dim: int) -> None:
        super().__init__()
        self._widths = (widths,)
        self.axis, self.dim = axis, dim

    def forward(self, x: Tensor) -> Tensor:
        widths = self._widths[0]
        keep = widths.keep(self.axis)
        if keep is None:
            return x
        shape = [1] * x.dim()
        shape[self.dim] = -1
        if widths.overrides:
            return x * keep.to(x.dtype).view(shape)
        y = x * amplitude(keep).to(x.dtype).view(shape)
        return self._noise(x, y, keep) if self.training and widths.noise else y

    def _noise(self, x: Tensor, y: Tensor, keep: Tensor) -> Tensor:
        """Only the units on the boundary carry noise."""
        boundary = torch.nonzero((keep.detach() > 0) & (keep.detach() < 1)).flatten()
        if not len(boundary):
            return y
        part = x.detach().index_select(self.dim, boundary)
        others = [dim for dim in range(x.dim()) if dim != self.dim]
        sigma = part.float().square().mean(others, keepdim=True).sqrt().to(x.dtype)
        shape = [1] * x.dim()
        shape[self.dim] = -1
        share = amplitude(1 - keep[boundary]).to(x.dtype).view(shape)
        return y.index_add(self.dim, boundary, torch.randn_like(part) * sigma * share)


class MaskedOperator(nn.Module):
    """An operator that mixes channels, computed on the kept units; with open gates the operator itself."""

    def __init__(self, widths: Widths, operator: Any, masked: Masked) -> None:
        super().__init__()
        self._widths = (widths,)
        self.operator, self.masked = operator, masked

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        keeps: Sequence[Tensor | None] = [self._widths[0].keep(axis) for axis in self.masked.axes]
        if all(keep is None for keep in keeps):
            return self.operator(*args, **kwargs)
        return self.masked.call(keeps, *args, **kwargs)
