"""The CRNN voice activity detector, from 16 kHz waveform to one logit per 10 ms frame."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16_000  # Hz
HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
N_FFT = 512
N_MELS = 80


def mel_filters(n_mels: int = N_MELS, low: float = 20.0, high: float = 8_000.0) -> Tensor:
    """Triangular filters, evenly spaced in mel (HTK formula), peak 1.

    Returns: [N_FFT // 2 + 1, n_mels]; `low` and `high` are in Hz.
    """
    low_mel, high_mel = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (low, high))
    mels = torch.linspace(low_mel, high_mel, n_mels + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # Hz
    bins = torch.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0).float()


class LogMel(nn.Module):
    """Waveform to normalised log-mel energies: [B, samples] -> [B, samples // HOP + 1, N_MELS]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW))
        self.register_buffer("filters", mel_filters())
        self.register_buffer("mean", torch.zeros(N_MELS))
        self.register_buffer("std", torch.ones(N_MELS))

    def energies(self, wave: Tensor) -> Tensor:
        """Log-mel energies (natural log) before normalisation: [B, samples] -> [B, frames, N_MELS]."""
        spectrum = torch.stft(wave, N_FFT, HOP, WINDOW, self.window, center=True, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return torch.log(power.transpose(1, 2) @ self.filters + 1e-6)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, N_MELS]."""
        return (self.energies(wave) - self.mean) / self.std

    @torch.no_grad()
    def fit(self, wave: Tensor) -> None:
        """Set mean and std per band from example audio: [B, samples]."""
        energies = self.energies(wave).flatten(0, 1)
        self.mean.copy_(energies.mean(0))
        self.std.copy_(energies.std(0))


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Conv + batch norm + ReLU that halves frequency: [B, inputs, T, F] -> [B, outputs, T, F / 2]."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=(1, 2), padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class CRNNVAD(nn.Module):
    """Voice activity detector: [B, samples] at 16 kHz -> logits [B, samples // HOP + 1], speech above 0."""

    def __init__(self, channels: tuple[int, ...] = (16, 24, 40), hidden: int = 128) -> None:
        super().__init__()
        self.features = LogMel()
        self.convs = nn.Sequential(*(conv_block(i, o) for i, o in zip((1, *channels), channels, strict=False)))
        bands = N_MELS // 2 ** len(channels)
        self.gru = nn.GRU(channels[-1] * bands, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, samples] -> logits [B, frames]."""
        maps = self.convs(self.features(wave).unsqueeze(1))  # [B, C, T, F]
        frames = maps.permute(0, 2, 1, 3).flatten(2)  # [B, T, C * F]
        hidden, _ = self.gru(frames)
        return self.head(hidden).squeeze(-1)


def crnn_vad() -> CRNNVAD:
    """Return the untrained model."""
    return CRNNVAD()


def load(weights: str | Path) -> CRNNVAD:
    """Return the model with weights from a safetensors file, in eval mode."""
    from safetensors.torch import load_file

    model = crnn_vad()
    model.load_state_dict(load_file(weights))
    return model.eval()
