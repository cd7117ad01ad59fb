"""Discrete Fourier transforms as matrices: for sizes at which onnxruntime's own are slow.

onnxruntime is quick where the number of points is a power of two; at 400 points a product with the matrix takes a thirtieth
of its time, and is more exact. Such a matrix has rows of cosines, then rows of sines, with the window on its columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, Any]

PREFIX = "fourier_matrix"
"""Names of the constants begin so. Nothing hangs on a name: such a matrix is known by its values (``graph/fourier.py``)."""


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
