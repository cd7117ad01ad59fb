"""Gates: a layer's width as a real number that gradient descent can move.

A group of N units has a width K and a rank r_u for each unit. With a window w ≥ 1, unit u is kept to the degree
a_u = clip((K − r_u + (w − 1)/2) / w, 0, 1), and where it is read the feature x_u becomes

    a_u · x_u + √(a_u (1 − a_u)) · σ_u · ν        ν ~ N(0, 1), σ_u the RMS of x_u

This is the noisy channel √a · x + √(1 − a) · σν of arXiv 2601.13704 (there w = 1) times its Wiener gain √a. It carries the
same information, and the readers, which have learned to read x, need not learn first how much of the signal is noise: mean
and variance are those of a unit that is there with probability a and else gone, and the mean square error is (1 − a) σ²,
linear in a. Without the gain it is (1 − √a)² σ² larger, and the width gradient says how hard noise hits a reader that does
not expect it, which is worst near the output. ``keep_power`` leaves the gain out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.axes.algebra import Axis, evaluate
from shrinkspeech.groups.groups import Groups
from shrinkspeech.rules.registry import Masked, Read
from shrinkspeech.surgery.noise import level, noise_like
from shrinkspeech.surgery.ranks import Ranks

ROUNDING = 1e-6
"""A width is stored as a share of the size; a whole width that comes back a hair above or below is whole."""

SMALLEST_POWER = 1e-4
"""Below this the square root's slope is not followed."""


def amplitude(power: Tensor) -> Tensor:
    """√p, exactly 0 and 1 at the ends, with a bounded slope."""
    return power.clamp_min(SMALLEST_POWER).sqrt() * (power > 0)


class Widths(nn.Module):
    """Width and window of every group that may shrink.

    ``fractions [groups]`` is the trainable parameter: width / size.

    Args:
        ranks: the order in which units close; from the last to the first where none is given.

    Attributes:
        window: width of the boundary, in units.
        noise: whether gates are noisy in training.
        keep_power: whether the noisy feature keeps the feature's power, as in the paper, instead of having the Wiener gain.
    """

    def __init__(self, groups: Groups, ranks: Ranks | None = None) -> None:
        super().__init__()
        self.groups = groups
        self.names = [group.name for group in groups.shrinkable]
        self.position = {name: i for i, name in enumerate(self.names)}
        sizes = [group.size for group in groups.shrinkable]
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.float64), persistent=False)
        lowest = torch.tensor([float(group.min_width) for group in groups.shrinkable], dtype=torch.float64)
        self.register_buffer("lowest", lowest, persistent=False)
        self.offsets = [0, *torch.tensor(sizes or [0]).cumsum(0).tolist()]
        self.register_buffer("_places", torch.zeros(sum(sizes), dtype=torch.long), persistent=False)
        self.set_ranks(ranks or Ranks.ascending(dict(zip(self.names, sizes, strict=True))))
        self.fractions = nn.Parameter(torch.ones(len(sizes), dtype=torch.float64))
        self.window = 1.0
        self.noise = True
        self.keep_power = False
        self.overrides: dict[str, Tensor] = {}
        self._cache: dict[Axis, Tensor | None] = {}
        self._keeps: dict[str, Tensor | None] = {}

    sizes: Tensor
    lowest: Tensor
    _places: Tensor

    @property
    def real(self) -> Tensor:
        """Widths ``[groups]``, real, between the smallest width and the size."""
        return (self.fractions * self.sizes).clamp(min=self.lowest, max=self.sizes)

    def kept(self, widths: Mapping[str, int]) -> dict[str, list[int]]:
        """Units that remain at whole widths: those that are kept longest, in their own order."""
        return self.ranks.best(widths)

    def rank(self, name: str) -> Tensor:
        """Places of the units of one group ``[size]``, 0 for the one that is kept longest."""
        return self._place(self.position[name])

    def set_rank(self, name: str, scores: Tensor) -> None:
        """Rank the units of one group by importance ``[size]``: the highest score is kept longest.

        Raises:
            KeyError: no group of that name may shrink.
        """
        if name not in self.position:
            raise KeyError(name)
        self.set_ranks(self.ranks.with_scores({name: scores}))

    def set_ranks(self, ranks: Ranks) -> None:
        """Close units in another order."""
        self.ranks = ranks
        for i, name in enumerate(self.names):
            self._place(i).copy_(torch.tensor(ranks.places[name]))

    def _place(self, group: int) -> Tensor:
        """Places of the units of one group ``[size]``, on the device of the gates."""
        return self._places[self.offsets[group] : self.offsets[group + 1]]

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
                keep = ((real[i] - self._place(i) + (window - 1) / 2) / window).clamp(0, 1)
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


class _Scaled(torch.autograd.Function):
    """``x`` times a factor for each unit of ``dim``; only the factors on the boundary get a gradient.

    Where a keep is 0 or 1 it does not follow the width, so the product over all units need not be summed. Where ``x`` is 0
    no factor changes anything, however steep what follows is there (the root of a silent frame's power).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, dim: int, boundary: Tensor) -> Tensor:
        shape = [-1 if i == dim % x.dim() else 1 for i in range(x.dim())]
        ctx.dim, ctx.shape = dim, shape
        ctx.save_for_backward(x if factor.requires_grad else None, factor, boundary)
        return x * factor.view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        [gradient] = gradients
        x, factor, boundary = ctx.saved_tensors
        to_x = gradient * factor.view(ctx.shape) if ctx.needs_input_grad[0] else None
        to_factor = None
        if ctx.needs_input_grad[1]:
            part = x.index_select(ctx.dim, boundary)
            both = torch.where(part == 0, 0, gradient.index_select(ctx.dim, boundary) * part)
            others = [dim for dim, size in enumerate(ctx.shape) if size == 1]
            sums = both.sum(others) if others else both
            to_factor = torch.zeros_like(factor).index_copy_(0, boundary, sums)
        return to_x, to_factor, None, None


class Gate(nn.Module):
    """The switch where an axis is read: ``x → a·x + √(a(1 − a))·σ·ν`` on its dimension.

    Args:
        noisy: whether the reader learns. One that does not cannot undo the gain either, and noise would do it harm: a power
            spectrum becomes negative, and the logarithm of what a filter bank makes of it none.
    """

    def __init__(self, widths: Widths, read: Read, noisy: bool = True) -> None:
        super().__init__()
        self._widths = (widths,)
        self.read, self.dim, self.noisy = read, read.dim, noisy

    def forward(self, x: Tensor) -> Tensor:
        widths = self._widths[0]
        keep = widths.keep(self.read.axis)
        if keep is None:
            return x
        keep = keep.repeat_interleave(self.read.inner.size).repeat(self.read.outer.size)
        shape = [1] * x.dim()
        shape[self.dim] = -1
        if not (x.is_floating_point() or x.is_complex()):  # what is counted is there or not
            return x * (keep.detach() > 0).to(x.dtype).view(shape)
        if widths.overrides:
            every: Tensor = _Scaled.apply(x, keep.to(x.dtype), self.dim, torch.arange(len(keep), device=keep.device))
            return every
        boundary = torch.nonzero((keep.detach() > 0) & (keep.detach() < 1)).flatten()
        gain = amplitude(keep) if widths.keep_power else keep
        y: Tensor = _Scaled.apply(x, gain.to(x.dtype), self.dim, boundary)
        return (
            self._noise(x, y, keep, boundary) if self.training and self.noisy and widths.noise and len(boundary) else y
        )

    def prepare(self) -> None:
        """Compute the keeps now; whoever runs a part of the graph twice has them made outside of it."""
        self._widths[0].keep(self.read.axis)

    def _noise(self, x: Tensor, y: Tensor, keep: Tensor, boundary: Tensor) -> Tensor:
        """Only the units on the boundary carry noise."""
        part = x.detach().index_select(self.dim, boundary)
        sigma = level(part, self.dim)
        shape = [1] * x.dim()
        shape[self.dim] = -1
        some = keep[boundary]
        power = 1 - some if self._widths[0].keep_power else some * (1 - some)
        share = amplitude(power).view(shape) * sigma
        # In place: y is a fresh product, whose backward pass reads its factors alone.
        return y.index_add_(self.dim, boundary, noise_like(part, self.dim, self.read.node.name) * share.to(x.dtype))


class MaskedOperator(nn.Module):
    """An operator that mixes channels, computed on the kept units; with open gates the operator itself."""

    def __init__(self, widths: Widths, operator: Any, masked: Masked) -> None:
        super().__init__()
        self._widths = (widths,)
        self.operator, self.masked = operator, masked

    def prepare(self) -> None:
        """As ``Gate.prepare``."""
        for axis in self.masked.axes:
            self._widths[0].keep(axis)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        keeps: Sequence[Tensor | None] = [self._widths[0].keep(axis) for axis in self.masked.axes]
        if all(keep is None for keep in keeps):
            return self.operator(*args, **kwargs)
        return self.masked.call(keeps, *args, **kwargs)
