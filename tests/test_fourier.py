"""Matrices of Fourier transforms are torch's transforms."""

from __future__ import annotations

import pytest
import torch

from shrinkspeech.export.fourier import analysis, is_quick, synthesis
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
