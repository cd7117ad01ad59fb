"""Discrete Fourier transforms as matrices: for sizes at which onnxruntime's own are slow, and told from other weights.

onnxruntime is quick where the number of points is a power of two; at 400 points a product with the matrix takes a thirtieth
of its time, and is more exact. Such a matrix has rows of cosines, then rows of sines, with the window on its columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, Any]

PREFIX = "fourier_matrix"
"""Names of the constants begin so. A name proves nothing: a constant counts as a transform if its values are one, too."""

NEAR = 1e-5
"""Rounding to float32, relative to the largest value."""


def is_quick(points: int) -> bool:
    """Whether onnxruntime transforms so many points by halves."""
    return points & (points - 1) == 0


def analysis(points: int, onesided: bool = True) -> Matrix:
    """Samples to real parts, then imaginary parts: ``[2 · bins, points]``.

    Bins without an imaginary part have a row of zeros, not of rounding errors: a phase hangs on their sign.
    """
    bins = points // 2 + 1 if onesided else points
    steps = np.outer(np.arange(bins), np.arange(points)) % points
    angles = 2 * math.pi / points * steps
    sines = -np.sin(angles)
    sines[(2 * np.arange(bins)) % points == 0] = 0.0
    return np.concatenate([np.cos(angles), sines])


def synthesis(points: int) -> Matrix:
    """Real parts, then imaginary parts, of half a spectrum to samples: ``[2 · bins, points]``, applied from the left."""
    bins = np.arange(points // 2 + 1)
    weights = np.where((2 * bins) % points == 0, 1.0, 2.0) / points
    return analysis(points) * np.concatenate([weights, weights])[:, None]


def points_of(matrix: Matrix) -> int | None:
    """How many points a matrix of one transform has, with any window; None if it is none.

    Args:
        matrix: ``[2 · bins, points]`` or its transpose, or the weight of a convolution, ``[2 · bins, 1, points]``.
    """
    flat = matrix[:, 0] if matrix.ndim == 3 and matrix.shape[1] == 1 else matrix
    if flat.ndim != 2:
        return None
    return next((found for rows in (flat, flat.T) if (found := _points(rows.astype(np.float64)))), None)


def _points(rows: Matrix) -> int | None:
    points = rows.shape[1]
    for wanted in _candidates(len(rows), points):
        window = rows[0] / wanted[0]
        largest = float(np.abs(rows).max())
        if largest > 0 and float(np.abs(rows - wanted * window).max()) <= NEAR * largest:
            return points
    return None


def _candidates(rows: int, points: int) -> list[Matrix]:
    """Transforms of that shape, each without a zero in its first row."""
    half = rows == 2 * (points // 2 + 1)
    return [
        *([analysis(points), synthesis(points)] if half else []),
        *([analysis(points, False)] if rows == 2 * points else []),
    ]
