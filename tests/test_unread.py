"""Kernels of bins that nobody reads are not in the file, and everything else is as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from shrinkspeech import export_onnx, flops, label
from shrinkspeech.export.exporter import ExportReport
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.export.fourier import PREFIX
from shrinkspeech.export.parity import parity
from shrinkspeech.export.transform_times import planned
from shrinkspeech.graph.capture import capture
from shrinkspeech.surgery.slice import slice as sliced
from tests.export_cases import Apply, noise


def spectrum(m: Any, x: Tensor) -> Tensor:
    return torch.stft(x, m.points, m.points // 4, window=m.window, return_complex=True)


def from_first(m: Any, x: Tensor) -> Tensor:
    return m.head(spectrum(m, x)[:, 1:20].abs().mT)


def in_two_parts(m: Any, x: Tensor) -> Tensor:
    """Low bins and high ones, none between."""
    z = spectrum(m, x).abs().mT
    return m.head(torch.cat([z[..., :9], z[..., 23:33]], -1))


def real_part(m: Any, x: Tensor) -> Tensor:
    return m.head(spectrum(m, x).real[:, 2:21].mT)


def bands(m: Any, x: Tensor) -> Tensor:
    return m.tail((spectrum(m, x).abs().square().mT @ m.filters + 1e-5).log())


def bands_first(m: Any, x: Tensor) -> Tensor:
    return m.tail((m.filters.mT @ spectrum(m, x).abs().square() + 1e-5).log().mT)


def normalised(m: Any, x: Tensor) -> Tensor:
    """A norm reads all bins, those too at which the filters are zero."""
    z = spectrum(m, x).abs().mT
    return m.tail(nn.functional.layer_norm(z, (33,)) @ m.filters)


def masked(m: Any, x: Tensor) -> Tensor:
    z = spectrum(m, x)
    return torch.istft(z * m.gain[:, None], m.points, m.points // 4, window=m.window)


def model(forward: Callable[[Any, Tensor], Tensor], points: int = 64) -> nn.Module:
    torch.manual_seed(0)
    filters = torch.zeros(points // 2 + 1, 6)
    for i in range(6):
        filters[3 + 4 * i : 8 + 4 * i, i] = torch.rand(5) + 0.1
    parts = {"head": nn.Linear(19, 3), "tail": nn.Linear(6, 3), "gain": nn.Parameter(torch.rand(points // 2 + 1))}
    found = Apply(forward, window=nn.Buffer(torch.hann_window(points)), filters=nn.Buffer(filters), **parts)
    found.points = points
    return found.eval()


def exported(forward: Callable[[Any, Tensor], Tensor], path: Path, points: int = 64) -> tuple[ExportReport, list[int]]:
    """The report, and how many rows the kernel has."""
    given = model(forward, points)
    captured = capture(given, (noise(2, 400),))
    report = export_onnx(captured, path, stft="conv")
    assert report.difference < 1e-5
    assert parity(given, path, [(noise(3, 777),)])[0].difference < 1e-5
    cost = onnx_flops(path)
    assert cost.flops == report.flops == flops(captured)
    assert cost.transforms > 0
    return report, [x.dims[0] for x in onnx.load(str(path)).graph.initializer if x.name.startswith(PREFIX)]


@pytest.mark.parametrize(
    ("forward", "rows"),
    [(from_first, 38), (in_two_parts, 38), (real_part, 19), (bands, 50), (normalised, 66), (masked, 66)],
)
def test_kernels_of_bins_that_nobody_reads_go(forward: Any, rows: int, tmp_path: Path) -> None:
    report, found = exported(forward, tmp_path / "model.onnx")
    assert found[0] == rows
    said = "" if rows == 66 else f", {(rows + 1) // 2} bins of which are read,"
    assert str(report.spectra[0]) == f"stft of 64 points{said} as conv"


def test_more_go_with_their_bands(tmp_path: Path) -> None:
    captured = capture(model(bands), (noise(2, 400),))
    groups = label(captured)
    name = next(group.name for group in groups.shrinkable if group.size == 6)
    small = sliced(captured, groups, {name: [1, 2]})
    report = export_onnx(small, tmp_path / "small.onnx", stft="conv")
    assert report.difference < 1e-5
    assert onnx_flops(report.path).flops == report.flops == flops(small)
    kernel = next(x for x in onnx.load(str(report.path)).graph.initializer if x.name.startswith(PREFIX))
    assert kernel.dims[0] == 2 * (16 - 7)


def test_too_few_bins_to_be_known_stay(tmp_path: Path) -> None:
    _, found = exported(lambda m, x: spectrum(m, x)[:, 4:6].abs(), tmp_path / "model.onnx")
    assert found == [66]


def test_a_filter_in_front_of_the_bins(tmp_path: Path) -> None:
    _, found = exported(bands_first, tmp_path / "model.onnx")
    assert found[0] in (50, 66)


def test_what_is_measured_is_what_is_read() -> None:
    captured = capture(model(from_first), (noise(2, 400),))
    forms = planned(captured, "auto")
    assert [transform.bins for transform in forms.seconds] == [19]
    assert forms.bins == {"stft": 19}
