"""Spectra in ONNX: waveform to spectrum and back at any length, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech import flops, label, load
from shrinkspeech.errors import ExportError
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.parity import parity
from shrinkspeech.export.real_numbers import use_real_numbers
from shrinkspeech.export.transforms import Forms
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.graph.normalise import WINDOWED
from shrinkspeech.groups.cost import count
from tests.export_cases import Apply, noise

aten = torch.ops.aten


class Masking(nn.Module):
    """Spectrum, a recurrent layer over sizes, a mask, and back: waveform to waveform."""

    def __init__(self, points: int, hop: int, window: Tensor, **options: Any) -> None:
        super().__init__()
        self.points, self.hop, self.options = points, hop, options
        bins = points if options.get("onesided") is False else points // 2 + 1
        self.rnn, self.mask = nn.GRU(bins, 8, batch_first=True), nn.Linear(8, bins)
        self.register_buffer("window", window)

    def forward(self, x: Tensor) -> Tensor:
        sizes = (self.points, self.hop, len(self.window), self.window)
        z = torch.stft(x, *sizes, return_complex=True, **self.options)
        m = self.mask(self.rnn(z.abs().mT)[0]).sigmoid().mT
        return torch.istft(z * m, *sizes, length=self.length(x), **self.options)

    def length(self, x: Tensor) -> int | None:
        return x.shape[-1]


class Free(Masking):
    """As long as the frames are."""

    def length(self, x: Tensor) -> None:
        return None


class Longer(Masking):
    """Longer than the frames reach: zeros follow."""

    def length(self, x: Tensor) -> int:
        return x.shape[-1] + 100


def hann(points: int) -> Tensor:
    return torch.hann_window(points)


CASES: dict[str, Callable[[], Masking]] = {
    "2ⁿ points": lambda: Masking(64, 16, hann(64)),
    "2ⁿ points, hop no divisor, window shorter": lambda: Free(64, 20, hann(50)),
    "window shorter, to the length": lambda: Masking(64, 16, hann(50)),
    "any points": lambda: Masking(40, 10, hann(40)),
    "odd points, normalized, hop no divisor": lambda: Masking(45, 12, hann(45), normalized=True),
    "all bins of 2ⁿ": lambda: Free(32, 16, hann(32), onesided=False),
    "all bins": lambda: Free(36, 12, hann(36), onesided=False),
    "not centred, longer": lambda: Longer(40, 20, torch.hamming_window(40), center=False),
}


@pytest.mark.parametrize("form", ["conv", "op"])
@pytest.mark.parametrize("name", CASES)
def test_masking_is_the_same_at_any_length(name: str, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CASES[name]().eval()
    captured = capture(model, (noise(2, 400),))
    assert captured.dynamic == (frozenset({0, 1}),)
    report = export_onnx(captured, tmp_path / "model.onnx", stft=form)
    assert [found.form for found in report.spectra] == [form] * 2
    written = {node.op_type for node in OnnxFile.read(report.path).proto.graph.node}
    assert (written >= {"Conv", "ConvTranspose"}, bool(written & {"STFT", "DFT"})) == (form == "conv", form == "op")
    assert report.dynamic == {"x": {0: "batch", 1: "time"}}
    assert report.nonstandard == ()
    near = 1e-5 if form == "conv" else 1e-4  # onnxruntime's own transforms of 40 points are less exact
    assert report.difference < near
    for item in parity(model, report.path, [(noise(3, 777),), (noise(1, 230),)]):
        assert item.difference < near, item.shapes
    cost, groups = onnx_flops(report.path), label(captured)
    assert not groups.unknown
    assert cost.flops == report.flops == flops(captured, groups) > 0
    spectra = count(captured, groups).extra
    assert len(spectra) == 2
    assert cost.transforms == pytest.approx(sum(terms.at({}) for terms in spectra.values()))
    assert cost.uncounted == {}


def test_the_way_back_keeps_its_length_when_saved(tmp_path: Path) -> None:
    model = Masking(64, 16, hann(64)).eval()
    captured = capture(model, (noise(2, 400),))
    captured.save(tmp_path / "model.pt2")
    again = load(tmp_path / "model.pt2")
    assert again.dynamic == captured.dynamic
    assert aten.istft.default in {node.target for node in again.graph_module.graph.nodes}
    longer = noise(3, 1111)
    assert max_difference(again.graph_module(longer), model(longer)) == 0.0
    module = again.module()
    module(longer).square().sum().backward()
    assert all(bool(x.grad.any()) for x in module.parameters())


@pytest.mark.parametrize(
    ("back", "bins"),
    [
        (lambda m, z: z.istft(64, 16, 64, m.window), 33),
        (lambda m, z: torch.istft(z, n_fft=64, hop_length=16, window=m.window, length=390), 33),
        (lambda m, z: torch.istft(z, 64, window=m.window, center=False), 33),
        (lambda m, z: torch.istft(z, 64, 16), 33),
        (lambda m, z: torch.istft(z, 64, 16, length=384).view(-1, 8, 48), 33),
        (lambda m, z: torch.istft(z, 64, 16).view(z.shape[0], z.shape[2] - 1, 16), 33),
        (lambda m, z: torch.istft(z, 64, 16, window=m.window, center=False).view(z.shape[0], z.shape[2] + 3, 16), 33),
        (lambda m, z: torch.istft(z, 64, 16, return_complex=True, onesided=False).abs(), 64),
    ],
)
def test_every_way_to_call_it_is_captured(back: Any, bins: int) -> None:
    model = Apply(lambda m, x: back(m, torch.view_as_complex(x)), window=nn.Buffer(torch.ones(64)))
    captured = capture(model.eval(), (noise(2, bins, 30, 2),))
    assert captured.dynamic[0] == {0, 2}
    longer = noise(2, bins, 41, 2)
    assert max_difference(captured.graph_module(longer), model(longer)) == 0.0


def windows_in_forward(m: Any, x: Tensor) -> Tensor:
    return torch.istft(torch.stft(x, 40, 10, window=hann(40), return_complex=True) * m.gain, 40, 10, window=hann(40))


def test_a_window_made_in_forward(tmp_path: Path) -> None:
    captured = capture(Apply(windows_in_forward, gain=nn.Parameter(torch.rand(1))).eval(), (noise(2, 400),))
    report = export_onnx(captured, tmp_path / "model.onnx", stft="conv")
    assert report.difference < 1e-5
    assert {found.form for found in report.spectra} == {"conv"}


def test_a_window_that_hangs_on_the_input_is_refused(tmp_path: Path) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        window = hann(40) + x[0, 0]
        return torch.istft(torch.stft(x, 40, 10, window=hann(40), return_complex=True), 40, 10, window=window)

    captured = capture(Apply(forward).eval(), (noise(2, 400).abs(),))
    with pytest.raises(ExportError, match=r"aten.istft.default of complex numbers at model"):
        export_onnx(captured, tmp_path / "model.onnx", stft="op")


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize(("points", "whole", "form"), [(40, False, "conv"), (40, True, "conv"), (32, False, "op")])
def test_frames_that_the_operator_centres_itself(points: int, whole: bool, form: str, mode: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return aten.stft.center(x, points, 10, points, m.window, True, mode, True, not whole, True).abs()

    captured = capture(Apply(forward, window=nn.Buffer(hann(points))).eval(), (noise(2, 400),))
    wanted = captured.graph_module(noise(2, 300))
    use_real_numbers(captured, Forms(form))
    assert aten.stft.center not in {node.target for node in captured.graph_module.graph.nodes}
    assert max_difference(captured.graph_module(noise(2, 300)), wanted) < 1e-5


def test_half_a_spectrum_without_complex_numbers() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return aten.stft.default(x, 40, 10, 40, m.window, False, True, False).square().sum(-1)

    captured = capture(Apply(forward, window=nn.Buffer(hann(40))).eval(), (noise(2, 400),))
    wanted = captured.graph_module(noise(2, 300))
    use_real_numbers(captured, Forms("conv"))
    assert aten.conv1d.default in {node.target for node in captured.graph_module.graph.nodes}
    assert max_difference(captured.graph_module(noise(2, 300)), wanted) < 1e-5


def band_pass(m: Any, x: Tensor) -> Tensor:
    frames = m.first(x.unfold(-1, m.points, m.points // 2))
    return torch.fft.irfft(torch.fft.rfft(frames) * m.gain, m.points)


@pytest.mark.parametrize(("form", "kinds"), [("conv", {"MatMul"}), ("op", {"MatMul", "DFT"})])
@pytest.mark.parametrize("points", [40, 64])
def test_transforms_of_frames(points: int, form: str, kinds: set[str], tmp_path: Path) -> None:
    gain = nn.Parameter(torch.rand(points // 2 + 1))
    model = Apply(band_pass, first=nn.Linear(points, points, bias=False), gain=gain)
    model.points = points
    captured = capture(model.eval(), (noise(2, 400),))
    report = export_onnx(captured, tmp_path / "model.onnx", stft=form)
    cost, groups = onnx_flops(report.path), label(captured)
    found = {node.op_type for node in OnnxFile.read(report.path).proto.graph.node}
    assert found & {"MatMul", "Gemm", "DFT"} == kinds
    assert cost.flops == flops(captured, groups)
    assert cost.transforms == pytest.approx(sum(terms.at({}) for terms in count(captured, groups).extra.values()))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x.unfold(-1, 40, 20), dim=-1) * m.gain, dim=-1),
        lambda m, x: torch.fft.irfftn(torch.fft.rfftn(x.unfold(-1, 40, 20), dim=(2,)) * m.gain, s=(40,), dim=(-1,)),
        lambda m, x: (
            torch.fft.ifft2(torch.fft.fft2(x.unfold(-1, 40, 20), dim=-1, norm="ortho"), dim=-1, norm="ortho").real
        ),
    ],
)
def test_transforms_of_several_axes_over_one(forward: Any, tmp_path: Path) -> None:
    model = Apply(forward, gain=nn.Parameter(torch.rand(21))).eval()
    captured = capture(model, (noise(2, 400),))
    groups = label(captured)
    assert {"aten.fft_fft.default", "aten.fft_ifft.default"} >= set(groups.unknown.values())
    report = export_onnx(captured, tmp_path / "model.onnx", stft="conv")
    assert report.difference < 1e-5
    assert parity(model, report.path, [(noise(3, 777),)])[0].difference < 1e-5


def test_a_window_of_ones_is_said() -> None:
    """torch warns about one that is not given, past Python's filters, whenever the graph runs."""
    model = Apply(lambda m, x: torch.istft(torch.stft(x, 40, 10, 40, return_complex=True) * m.gain, 40, 10))
    model.gain = nn.Parameter(torch.rand(1))
    captured = capture(model.eval(), (noise(2, 400),))
    windows = [node.args[4] for node in captured.graph_module.graph.nodes if node.target in WINDOWED]
    assert [window.target for window in windows] == [aten.ones.default] * 2
    assert max_difference(captured.graph_module(noise(3, 777)), model(noise(3, 777))) == 0.0
    assert not label(captured).unknown
