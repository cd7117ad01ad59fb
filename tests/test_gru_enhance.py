"""The sample enhancer: its overlap-add, its causality, its measures, and that the tool can shrink it. No data are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sample_models.gru_enhance as sample
import shrinkspeech
from sample_models.gru_enhance.evaluate import si_sdr
from sample_models.gru_enhance.model import HOP, N_FFT, GRUEnhance, Spectrum, load
from shrinkspeech.graph.captured import Captured

WEIGHTS = Path(sample.__file__).with_name("weights.safetensors")


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(GRUEnhance(12, 16).eval(), (0.1 * torch.randn(2, 8_000),))


@pytest.mark.parametrize("samples", [HOP, 5_000, 4 * N_FFT])
def test_the_spectrum_gives_the_wave_back(samples: int) -> None:
    spectrum, wave = Spectrum(), torch.randn(2, samples)
    torch.testing.assert_close(spectrum.inverse(spectrum(wave), samples), wave, atol=1e-5, rtol=0)


def test_no_output_sample_depends_on_more_than_a_window_ahead() -> None:
    torch.manual_seed(0)
    model, wave = GRUEnhance(12, 16).eval(), torch.randn(1, 8_000)
    changed = wave.clone()
    changed[:, 4_000 + N_FFT :] += 1.0
    with torch.no_grad():
        torch.testing.assert_close(model(wave)[:, :4_000], model(changed)[:, :4_000], atol=1e-6, rtol=0)


def test_si_sdr_knows_no_scale_and_measures_orthogonal_noise() -> None:
    clean = torch.zeros(1, 1_000)
    clean[:, 0] = 1.0
    noisy = clean.clone()
    noisy[:, 1] = 0.1
    assert si_sdr(noisy, clean).item() == pytest.approx(20.0, abs=1e-4)
    assert si_sdr(3 * noisy, 7 * clean).item() == pytest.approx(20.0, abs=1e-4)


def test_every_layer_can_shrink_at_any_length(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    assert {group.size for group in groups.shrinkable} == {12, 16}
    assert len(groups.shrinkable) == 5
    small = shrinkspeech.slice(captured, groups, {group.name: group.size // 2 for group in groups.shrinkable})
    assert shrinkspeech.flops(small) < 0.5 * shrinkspeech.flops(captured)
    with torch.no_grad():
        assert small.graph_module(torch.randn(3, 5_001)).shape == (3, 5_001)


def test_it_runs_in_onnxruntime(captured: Captured, tmp_path: Path) -> None:
    report = shrinkspeech.export_onnx(captured, tmp_path / "model.onnx", seconds=0.5)
    assert set(report.dynamic["wave"].values()) == {"batch", "time"}


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="there are no trained weights")
def test_trained_weights_remove_white_noise_from_a_chirp() -> None:
    time = torch.arange(24_000) / 16_000
    clean = 0.1 * torch.sin(2 * torch.pi * (200 + 50 * time) * time)[None] * (time % 0.4 < 0.25)
    noisy = clean + 0.05 * torch.randn(1, 24_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert si_sdr(load(WEIGHTS)(noisy), clean) > si_sdr(noisy, clean) + 3.0
