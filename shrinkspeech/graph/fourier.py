"""Weights that are Fourier transforms, told from others by their values, whoever wrote them and whatever they are called.

A row of such a matrix is a cosine or a sine of a whole number of turns, times a window that all rows share and a factor of its
own: torchlibrosa has cosines and sines in two kernels, conv-STFT in one, the way back divides by the number of points, and the
rows of bins that nobody reads may be left out. Window and factors may be any. The turns of a row are told by its signs.

The inverse of a transform that reads fewer samples than it has points adds a constant and an alternating sign to each row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Matrix = np.ndarray[Any, Any]

LEAST_POINTS = 8
"""Shorter rows might be a transform by chance."""

LEAST_BINS = 3
"""Rows of fewer frequencies might be one, too: any row at all is a constant times some window."""

PROBED = 12
"""Rows that are looked at first; other weights seldom pass."""

NEAR, NEAR_HALF = 1e-3, 3e-3
"""How far values may be off, relative to the largest: angles computed in float32, and float16."""

PLAIN, ROUNDS = 8, 24
"""Rounds of regression of window and factors in turns, the first without the two waves that an inverse adds."""

TINY = 1e-20


def transform_cost(points: int) -> float:
    """Operations of one fast transform: 5/2 · n · log2 n."""
    return 2.5 * points * math.log2(max(points, 2))


def points_of(weight: Matrix) -> int | None:
    """How many points the transform has that a weight is, None if it is none.

    Args:
        weight: rows and samples in either order, ``[R, L]`` or ``[L, R]``; dimensions of size 1 do not count, so that it may be
            the kernel of a (transposed) convolution.
    """
    sizes = [size for size in weight.shape if size > 1]
    if len(sizes) != 2 or min(sizes) < LEAST_BINS or max(sizes) < LEAST_POINTS:
        return None
    flat = weight.reshape(sizes)
    near = NEAR_HALF if weight.dtype == np.float16 else NEAR
    return next((found for rows in (flat, flat.T) if (found := _points(rows, near))), None)


def points_of_tensor(value: Tensor) -> int | None:
    """As ``points_of``."""
    if not value.is_floating_point():
        return None
    found = value.detach().cpu()
    return points_of((found.float() if found.dtype is torch.bfloat16 else found).numpy())


def _points(rows: Matrix, near: float) -> int | None:
    if rows.shape[1] < LEAST_POINTS:
        return None
    probe = rows[np.unique(np.linspace(0, len(rows) - 1, PROBED).astype(int))].astype(np.float64)
    largest = float(np.abs(probe).max())
    if not 0 < largest < math.inf or not _may_be_waves(probe / largest, near):
        return None
    return _looked_up(rows.tobytes(), rows.dtype.str, rows.shape, near)


def _may_be_waves(rows: Matrix, near: float) -> bool:
    """Whether signs change as often in the first half of each row as in the second, and not as often in all rows.

    Those of other weights seldom do, and this is quick.
    """
    counts = set()
    for row in rows[np.abs(rows).max(1) > near]:
        signs = np.sign(row[np.abs(row) > 1e-6 * np.abs(row).max()])
        changes = signs[1:] != signs[:-1]
        half = len(changes) // 2
        if half and abs(int(changes[:half].sum()) - int(changes[-half:].sum())) > 2:
            return False
        counts.add(int(changes.sum()))
    return len(counts) > 1


@lru_cache(maxsize=8)
def _looked_up(data: bytes, kind: str, shape: tuple[int, int], near: float) -> int | None:
    """The answer is kept: graphs are labelled many times."""
    rows = np.frombuffer(data, kind).reshape(shape).astype(np.float64)
    rows = rows / np.abs(rows).max()
    probe = rows[np.unique(np.linspace(0, len(rows) - 1, PROBED).astype(int))]
    for points, before in _candidates(*shape):
        waves = _Waves(points, before + np.arange(shape[1]))
        window = _window(probe, waves, waves.by_signs(probe), near)
        if window is not None:
            return points if _window(rows, waves, waves.by_window(rows, window), near) is not None else None
    return None


def _candidates(rows: int, length: int) -> Iterator[tuple[int, int]]:
    """Numbers of points, and how many of them stand before the first sample, where the window is shorter."""
    halves, whole = (rows - 2, rows - 1, 2 * rows - 2, 2 * rows - 1), (rows, rows // 2)
    power = 1 << (length - 1).bit_length()
    for points in dict.fromkeys((length, *halves, *whole, power)):
        if length <= points <= 8 * length:
            yield from dict.fromkeys([(points, 0), (points, (points - length) // 2)])


Turns = tuple[Matrix, Matrix]
"""How many turns each row has, and whether it is a sine."""


@dataclass(frozen=True)
class _Waves:
    """Cosines and sines of 0 to points / 2 turns, at some of the points."""

    points: int
    places: Matrix

    def of(self, turns: Matrix, sine: Matrix) -> Matrix:
        """``[rows, places]``; zeros are exact."""
        steps = turns[:, None] * self.places % self.points
        quarters = (4 * steps + self.points * np.where(sine, 3, 0)[:, None]) % (4 * self.points)
        waves = np.cos(2 * math.pi / (4 * self.points) * quarters)
        waves[(quarters % (2 * self.points)) == self.points] = 0.0
        return waves

    def by_signs(self, rows: Matrix) -> Turns:
        """The waves whose signs the rows have: a window has none of its own."""
        bins = np.arange(self.points // 2 + 1)
        scores = [np.abs(rows @ np.sign(self.of(bins, np.full(len(bins), kind))).T) for kind in (False, True)]
        return self._best(*scores)

    def by_window(self, rows: Matrix, window: Matrix) -> Turns:
        """The waves that the rows are most like, times a window that is known."""
        spectra, square = np.zeros((len(rows), self.points)), np.zeros(self.points)
        spectra[:, self.places], square[self.places] = rows * window, window**2
        bins = np.arange(self.points // 2 + 1)
        found, twice = np.fft.rfft(spectra), np.fft.fft(square).real[2 * bins % self.points]
        power = [np.maximum((square.sum() + twice * sign) / 2, 1e-9 * square.sum()) for sign in (1, -1)]
        return self._best(np.abs(found.real) / np.sqrt(power[0]), np.abs(found.imag) / np.sqrt(power[1]))

    @staticmethod
    def _best(cosine: Matrix, sine: Matrix) -> Turns:
        best = np.concatenate([cosine, sine], 1).argmax(1)
        return best % cosine.shape[1], best >= cosine.shape[1]


def _window(rows: Matrix, waves: _Waves, turns: Turns, near: float) -> Matrix | None:
    """The window of rows that are these waves, None if they are not."""
    loud = np.abs(rows).max(1) > near
    rows, turns = rows[loud], (turns[0][loud], turns[1][loud])
    if len(set(turns[0].tolist())) < LEAST_BINS:
        return None
    chosen = waves.of(*turns)
    alike = (rows * chosen).sum(1)
    factors = np.sqrt((rows**2).sum(1) / np.maximum((chosen**2).sum(1), TINY)) * np.sign(alike)
    shapes = factors[:, None] * chosen
    extra = np.stack([np.ones(len(waves.places)), (-1.0) ** waves.places])
    for number in range(ROUNDS):
        window = (rows * shapes).sum(0) / np.maximum((shapes**2).sum(0), TINY)
        basis = (
            [chosen * window]
            if number < PLAIN
            else [chosen * window, *(np.broadcast_to(x * window, rows.shape) for x in extra)]
        )
        parts = _regressed(rows, np.stack(basis, 1))
        error = float(np.abs(rows - parts.sum(1)).max())
        if error <= near:
            return np.asarray(window)
        if number == PLAIN - 1 and error > 0.5:
            return None
        shapes = parts.sum(1) / np.where(np.abs(window) > TINY, window, 1.0)
    return None


def _regressed(rows: Matrix, basis: Matrix) -> Matrix:
    """Each row as the sum of its parts along its own basis, ``[rows, parts, places]``."""
    gram = basis @ basis.transpose(0, 2, 1)
    factors = np.linalg.pinv(gram, hermitian=True) @ (basis @ rows[:, :, None])
    return np.asarray(factors * basis)
