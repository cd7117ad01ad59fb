"""Matrices of Fourier transforms: torch's transforms, and told from other weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkspeech.export.fourier import analysis, is_quick, points_of, synthesis
from tests.export_cases import noise

SIZES = (1, 2, 3, 8, 15, 40, 400)


@pytest.mark.parametrize("points", SIZES)
def test_a_spectrum_is_torchs(points: int) -> None:
    x = noise(points).double()
    half, whole = (torch.from_numpy(analysis(points, onesided)) @ x for onesided in (True, False))
    for found, wanted in ((half, torch.fft.rfft(x)), (whole, torch.fft.fft(x))):
        assert torch.allclose(torch.complex(*found.chunk(2)), wanted, atol=1e-12 * points)
    back = half @ torch.from_numpy(synthesis(points))
    assert torch.allclose(back, x, atol=1e-12 * points)


def test_bins_without_an_imaginary_part_have_rows_of_zeros() -> None:
    assert not analysis(40)[[21, 41]].any()
    assert not analysis(15)[8].any()
    assert analysis(15)[15].any()


def test_quick_sizes_are_powers_of_two() -> None:
    assert [points for points in range(1, 70) if is_quick(points)] == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("points", [2, 15, 40])
@pytest.mark.parametrize("make", [analysis, synthesis, lambda points: analysis(points, onesided=False)])
def test_a_matrix_is_known_by_its_values(make: object, points: int) -> None:
    matrix = make(points)  # type: ignore[operator]
    window = np.hanning(points + 2)[1:-1] * 0.3
    for known in (matrix, (matrix * window).astype(np.float32)):
        for form in (known, known.T, known[:, None]):
            assert points_of(form) == points
    bent = (matrix * window).astype(np.float32)
    bent[-1, 0] += 0.01 * np.abs(bent).max()
    assert points_of(bent) is None


@pytest.mark.parametrize("shape", [(42, 40), (42, 1, 40), (42, 2, 40), (42, 40, 1, 1), (40,), (80, 40), (3, 5)])
def test_other_weights_are_none(shape: tuple[int, ...]) -> None:
    assert points_of(noise(*shape).numpy()) is None
    assert points_of(np.zeros(shape, np.float32)) is None
    assert points_of(np.ones(shape, np.float32)) is None
