"""Fourier transforms among weights: known by their values in torch and in ONNX, and counted apart by all who count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from shrinkspeech import flops, label
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.export.fourier import analysis, synthesis
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.fourier import points_of, transform_cost
from shrinkspeech.graph.frozen import for_training, frozen, transforms
from shrinkspeech.groups.cost import count
from shrinkspeech.surgery.slice import slice as sliced
from tests.export_cases import Apply, noise

Matrix = np.ndarray[Any, Any]


def hann(points: int) -> Matrix:
    return np.hanning(points + 1)[:-1]


def halves(matrix: Matrix, rows: slice) -> Matrix:
    """Some bins of both halves."""
    half = len(matrix) // 2
    return np.concatenate([matrix[:half][rows], matrix[half:][rows]])


def conv_stft(points: int, window: int, back: bool = False) -> Matrix:
    """As the ``conv_stft.py`` of DCCRN has it: the window reads the first samples, and the way back is a pseudo-inverse."""
    kernel = analysis(points)[:, :window]
    return (np.linalg.pinv(kernel).T if back else kernel) * hann(window)


KNOWN: dict[str, Callable[[int], Matrix]] = {
    "kernels": lambda n: analysis(n) * hann(n),
    "the way back": lambda n: synthesis(n) * np.sqrt(hann(n)),
    "all bins": lambda n: analysis(n, onesided=False),
    "some bins": lambda n: halves(analysis(n) * hann(n), slice(2, 6)),
    "cosines": lambda n: (analysis(n) * hann(n))[: n // 2 + 1],
    "sines": lambda n: (analysis(n) * hann(n))[n // 2 + 1 :],
    "some sines": lambda n: (analysis(n) * hann(n))[n // 2 + 1 :][2:6],
    "rows scaled": lambda n: (
        analysis(n) * np.where(np.arange(2 * (n // 2 + 1)) % (n // 2 + 1) == 0, 0.7, -1.0)[:, None]
    ),
    "interleaved": lambda n: (analysis(n) * hann(n)).reshape(2, -1, n).swapaxes(0, 1).reshape(-1, n),
}


@pytest.mark.parametrize("points", [15, 16, 40, 129])
@pytest.mark.parametrize("name", KNOWN)
def test_a_transform_is_known_by_its_values(name: str, points: int) -> None:
    for matrix in (
        KNOWN[name](points),
        KNOWN[name](points).astype(np.float32),
        (KNOWN[name](points) * 1e-4).astype(np.float32),
    ):
        for form in (matrix, matrix.T, matrix[:, None], matrix[:, :, None], matrix[:, None, None]):
            assert points_of(form) == points
    bent = KNOWN[name](points)
    bent[-1, points // 2 + 1] += 0.02 * np.abs(bent).max()
    assert points_of(bent) is None


@pytest.mark.parametrize(("points", "window"), [(64, 50), (40, 31), (512, 400)])
def test_a_shorter_window(points: int, window: int) -> None:
    start = (points - window) // 2
    middle = analysis(points)[:, start : start + window] * hann(window)
    for matrix in (
        middle,
        conv_stft(points, window),
        conv_stft(points, window, back=True),
        conv_stft(points, points, back=True),
    ):
        assert points_of(matrix.astype(np.float32)) == points


def test_angles_in_single_precision() -> None:
    turns, places = torch.arange(257.0), torch.arange(512.0)
    angles = 2 * torch.pi * turns[:, None] * places / 512
    assert points_of(torch.cat([angles.cos(), -angles.sin()]).numpy()) == 512
    assert points_of(analysis(64).astype(np.float16)) == 64


def test_other_weights_are_none() -> None:
    shapes = [(42, 40), (42, 1, 40), (42, 2, 40), (64, 64), (40,), (80, 40), (3, 8), (16, 1, 9), (2, 512)]
    for shape in shapes:
        for weights in (noise(*shape).numpy(), np.abs(noise(*shape).numpy()), np.ones(shape), np.zeros(shape)):
            assert points_of(weights) is None
    smooth = np.cumsum(noise(40, 64).numpy(), 1)
    cosines = np.cos(np.pi / 40 * np.outer(np.arange(40), np.arange(40) + 0.5))
    chirps = np.cos(np.outer(np.arange(20), (np.arange(64) / 64) ** 2 * 9))
    uneven = np.cos(2 * np.pi / 64 * np.outer(np.arange(20) + 0.37, np.arange(64)))
    for other in (smooth, np.tril(np.ones((32, 32))), np.eye(32), cosines, chirps, uneven):
        assert points_of(other.astype(np.float32)) is None
    assert points_of(analysis(64)[[3, 4, 36, 37]]) is None
    assert points_of(np.where(analysis(64) > 0, np.inf, 0.0)) is None


def torchlibrosa(m: Any, x: Tensor) -> Tensor:
    """Cosines and sines in two kernels, then filters over the bins."""
    padded = nn.functional.pad(x[:, None], (20, 20), mode="reflect")
    power = m.cosines(padded).square() + m.sines(padded).square()
    return m.head((power.mT @ m.bands + 1e-5).log())


def conv(rows: Matrix, hop: int, transposed: bool = False, learns: bool = False) -> nn.Module:
    count, length = rows.shape
    kind = (
        nn.ConvTranspose1d(count, 1, length, hop, bias=False)
        if transposed
        else nn.Conv1d(1, count, length, hop, bias=False)
    )
    kind.weight = nn.Parameter(torch.from_numpy(rows)[:, None].float(), requires_grad=learns)
    return kind


def through(m: Any, x: Tensor) -> Tensor:
    """Kernels both ways around a mask."""
    z = m.stft(x[:, None])
    return m.back(z * m.second(m.first(z.mT).relu()).sigmoid().mT)[:, 0]


def librosa_model(learns: bool = False) -> nn.Module:
    kernel = (analysis(40) * hann(40)).astype(np.float32)
    parts = conv(kernel[:21], 10, learns=learns), conv(kernel[21:], 10, learns=learns)
    return Apply(
        torchlibrosa, cosines=parts[0], sines=parts[1], bands=nn.Buffer(noise(21, 6).abs()), head=nn.Linear(6, 3)
    ).eval()


def masking_model(learns: bool = False) -> nn.Module:
    kernels = conv(conv_stft(64, 50), 10, learns=learns), conv(conv_stft(64, 50, back=True), 10, True, learns)
    return Apply(through, stft=kernels[0], back=kernels[1], first=nn.Linear(66, 8), second=nn.Linear(8, 66)).eval()


def linear_model(learns: bool = False) -> nn.Module:
    layer = nn.Linear(40, 42, bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(analysis(40)).float(), requires_grad=learns)
    return Apply(lambda m, x: m.out(m.layer(x.unfold(-1, 40, 20)).square()), layer=layer, out=nn.Linear(42, 3)).eval()


MODELS = {"torchlibrosa": (librosa_model, 2), "conv-STFT": (masking_model, 2), "a linear layer": (linear_model, 1)}


def captured_model(name: str, learns: bool = False) -> Captured:
    torch.manual_seed(0)
    return capture(MODELS[name][0](learns), (noise(2, 400),))


@pytest.mark.parametrize("name", MODELS)
def test_one_total_without_the_transforms(name: str, tmp_path: Path) -> None:
    captured = captured_model(name)
    groups = label(captured)
    cost = count(captured, groups)
    spectra = [terms.at({}) for terms in cost.extra.values()]
    assert len(spectra) == MODELS[name][1]
    path = export_onnx(captured, tmp_path / "model.onnx").path
    found = onnx_flops(path)
    assert found.flops == flops(captured, groups) > 0
    assert found.transforms == pytest.approx(sum(spectra))
    assert min(spectra) > 0
    _rename(path)
    assert (onnx_flops(path).flops, onnx_flops(path).transforms) == (found.flops, found.transforms)


def _rename(path: Path) -> None:
    """A file of other hands: neither names nor notes of ours."""
    model = onnx.load(str(path))
    names = {x.name: f"w{i}" for i, x in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.name = ""
    onnx.save(model, str(path))


def test_how_many_transforms_there_are() -> None:
    captured = captured_model("torchlibrosa")
    frames = (400 + 2 * 20 - 40) // 10 + 1
    assert [x.at({}) for x in count(captured, label(captured)).extra.values()] == [frames * transform_cost(40)] * 2


def test_each_channel_with_a_kernel_of_its_own_is_no_transform(tmp_path: Path) -> None:
    layer = nn.Conv1d(42, 42, 40, groups=42, bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(analysis(40)).float()[:, None], requires_grad=False)
    captured = capture(layer.eval(), (noise(2, 42, 60),))
    assert flops(captured) == 2 * 42 * 21 * 40
    assert onnx_flops(export_onnx(captured, tmp_path / "model.onnx").path).flops == flops(captured)


@pytest.mark.parametrize("train_frozen", [False, True])
@pytest.mark.parametrize("learns", [False, True])
def test_a_fit_leaves_transforms_as_they_are(learns: bool, train_frozen: bool) -> None:
    captured = captured_model("conv-STFT", learns)
    assert set(transforms(captured)) == {"stft.weight", "back.weight"}
    assert set(frozen(for_training(captured, train_frozen))) == {"stft.weight", "back.weight"}
    assert set(frozen(captured)) == (set() if learns else {"stft.weight", "back.weight"})


def test_bins_that_go_leave_a_transform(tmp_path: Path) -> None:
    captured = captured_model("torchlibrosa")
    groups = label(captured)
    bins = next(group for group in groups if group.size == 21)
    kept = [3, 4, 5, 9, 12, 20]
    small = sliced(captured, groups, {bins.name: kept})
    assert small.parameters()["sines.weight"].shape == (6, 1, 40)
    found = onnx_flops(export_onnx(small, tmp_path / "small.onnx").path)
    assert found.flops == flops(small)
    assert found.transforms == onnx_flops(export_onnx(captured, tmp_path / "large.onnx").path).transforms
