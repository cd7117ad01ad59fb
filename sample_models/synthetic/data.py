"""The target: in branch b it has rank d_b, so no network with fewer than d_b hidden units there can produce it.

Branch b of the target is V tanh(G W x) with x ~ N(0, 1), W ``[d, INPUTS]`` of orthonormal rows and V ``[OUTPUTS, d]`` of
orthonormal columns. Its d features are independent and of one variance, so the target's covariance is that of d equal,
orthogonal directions. What k hidden units produce lies in a plane of k dimensions: for k < d they miss at least d − k of
the directions, whatever the units compute, and d units miss nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sample_models.synthetic.model import BRANCHES, INPUTS, OUTPUTS

GAIN = 1.5
NARROWEST, WIDEST = 3, 24  # units that a branch may need
APART = 3  # units, at least, between the needs of two branches

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Teacher:
    """The target function of one seed: ``widths`` are the units that each branch needs."""

    widths: tuple[int, ...]
    inner: Sequence[Tensor]
    outer: Sequence[Tensor]

    @classmethod
    def of(cls, seed: int) -> Teacher:
        """Draw needed widths, at least APART from each other, and orthogonal directions."""
        random = torch.Generator().manual_seed(seed)
        widths: list[int] = []
        while len(widths) < BRANCHES:
            width = int(torch.randint(NARROWEST, WIDEST + 1, (), generator=random))
            if all(abs(width - other) >= APART for other in widths):
                widths.append(width)
        inner = [_orthonormal(INPUTS, width, random).T for width in widths]
        outer = [_orthonormal(OUTPUTS, width, random) for width in widths]
        return cls(tuple(widths), inner, outer)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, INPUTS] -> [B, BRANCHES * OUTPUTS]."""
        parts = [torch.tanh(GAIN * x @ w.T) @ v.T for w, v in zip(self.inner, self.outer, strict=True)]
        return torch.cat(parts, dim=-1)

    def least_error(self, widths: Sequence[int]) -> float:
        """The share of the target's power, in %, that a student of these widths must miss."""
        missed = sum(max(need - width, 0) for need, width in zip(self.widths, widths, strict=True))
        return 100.0 * missed / sum(self.widths)

    def batches(self, seed: int, size: int) -> Iterator[Batch]:
        """Endless (inputs [size, INPUTS], targets) that follow from the seed."""
        random = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(size, INPUTS, generator=random)
            yield x, self(x)


def _orthonormal(rows: int, columns: int, random: torch.Generator) -> Tensor:
    """A random [rows, columns] of orthonormal columns."""
    return torch.linalg.qr(torch.randn(rows, columns, generator=random))[0]


def error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error as a share of the target's power, one number."""
    return (outputs - targets).square().sum() / targets.square().sum()
