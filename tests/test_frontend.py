"""Features: against their definition, and before a model as one graph."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech import capture
from shrinkspeech.data.frontend import FrontEnd, band_filters, parse_features, with_frontend
from shrinkspeech.errors import InputError
from tests.audio_files import RATE


def test_features_are_what_they_say() -> None:
    """Against the definition, frame by frame in numpy."""
    wave = np.random.default_rng(0).standard_normal(1_600).astype(np.float32)
    frontend = FrontEnd(parse_features("lfcc:5,20ms,10ms,filters=8,fft=256"), RATE)
    got = frontend(torch.from_numpy(wave)[None])[0].numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(160) / 160)
    padded, filters = np.pad(wave, 128, mode="reflect"), band_filters(8, 256, RATE, 20.0, 4_000.0, False).numpy()
    frames = [padded[80 * i + 48 : 80 * i + 208] * window for i in range(21)]
    energies = np.log(np.abs(np.fft.rfft(frames, 256)) ** 2 @ filters + 1e-6)
    n, k = np.arange(8)[:, None], np.arange(5)[None]
    cosines = np.cos(np.pi / 8 * (n + 0.5) * k) * np.where(k == 0, math.sqrt(1 / 8), math.sqrt(2 / 8))
    assert got.shape == (5, 21)
    assert np.abs(got - (energies @ cosines).T).max() < 2e-4


def test_bands_cover_the_range() -> None:
    filters = band_filters(40, 512, 16_000, 20.0, 8_000.0, True)
    assert filters.shape == (257, 40)
    assert float(filters.min()) >= 0
    assert float(filters.max()) <= 1
    assert filters.argmax(0).diff().min() >= 0


@pytest.mark.parametrize(
    "text",
    ["mel:80", "logmel", "logmel:0", "logmel:80,25ms,10ms,5ms", "logmel:80,x=1", "mfcc:13,norm=all", "logmel:80,0ms"],
)
def test_unreadable_features(text: str) -> None:
    with pytest.raises(InputError, match="write logmel:80,25ms,10ms"):
        parse_features(text)


def test_impossible_features() -> None:
    for text in ("logmel:80,25ms,10ms,fft=64", "logmel:80,high=9000", "mfcc:40,filters=20"):
        with pytest.raises(InputError, match="cannot be built at 8000 Hz"):
            FrontEnd(parse_features(text), RATE)


class Frames(nn.Module):
    """Features in any layout → one value a frame."""

    def __init__(self, bands: int, layout: str) -> None:
        super().__init__()
        self.layout, self.out = layout, nn.Linear(bands, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.squeeze(1) if self.layout.startswith("1") else x
        return self.out(x if self.layout.endswith("TF") else x.transpose(1, 2)).squeeze(-1)


@pytest.mark.parametrize("layout", ["FT", "TF", "1FT", "1TF"])
def test_with_frontend(layout: str) -> None:
    """The two as one give what they give apart, at another length and batch too."""
    torch.manual_seed(0)
    frontend = FrontEnd(parse_features("logmel:20,25ms,10ms,norm=item"), RATE, layout)
    model = Frames(20, layout).eval()
    whole = with_frontend(capture(model, (frontend(torch.randn(2, RATE)),)), frontend)
    wave = torch.randn(3, 6_000)
    with torch.no_grad():
        assert torch.allclose(whole.module()(wave), model(frontend(wave)), atol=1e-6)
    assert whole.example_inputs[0].shape == (2, RATE)


def test_with_frontend_refuses() -> None:
    captured = capture(Frames(20, "FT").eval(), (torch.randn(2, 20, 50),))
    with pytest.raises(InputError, match="the model takes 2x20x50, where --features logmel:30 gives Bx30xT"):
        with_frontend(captured, FrontEnd(parse_features("logmel:30"), RATE))


def test_export_with_frontend(tmp_path: Path) -> None:
    """The ONNX file takes samples and agrees with front end and model, which the export itself proves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(20, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 3, 1)).eval()
    frontend = FrontEnd(parse_features("logmel:20"), RATE)
    whole = with_frontend(shrinkspeech.capture(model, (torch.randn(2, 20, 101),)), frontend)
    report = shrinkspeech.export_onnx(whole, tmp_path / "whole.onnx", seconds=1.0)
    assert report.difference < 1e-4
    assert len(report.parity) > 1
