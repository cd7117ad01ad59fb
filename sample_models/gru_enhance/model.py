"""The mask estimator, from a noisy to an enhanced 16 kHz waveform."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 16_000  # Hz
N_FFT = 512  # samples, 32 ms
HOP = N_FFT // 2  # samples, 16 ms
BINS = N_FFT // 2 + 1


class Spectrum(nn.Module):
    """Waveform to spectrum and back, with a square-root Hann window on both ways and half of a window between frames."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT).sqrt())

    def forward(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, BINS, T, 2], real and imaginary parts, T = samples // HOP + 2."""
        padded = F.pad(wave, (0, HOP))  # so that the last frame covers the last sample
        return torch.view_as_real(torch.stft(padded, N_FFT, HOP, N_FFT, self.window, center=True, return_complex=True))

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """[B, BINS, T, 2] -> [B, samples]: with two frames over each sample, overlap-add is one sum of halves."""
        frames = torch.fft.irfft(torch.view_as_complex(spectrum).transpose(1, 2), N_FFT) * self.window  # [B, T, N_FFT]
        return (frames[:, 1:, :HOP] + frames[:, :-1, HOP:]).flatten(1)[:, :samples]


class Causal(nn.Module):
    """Convolution over time that sees no later frame, batch norm, ReLU: [B, inputs, T] -> [B, outputs, T]."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.past = kernel - 1
        self.conv = nn.Conv1d(inputs, outputs, kernel, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(F.pad(x, (self.past, 0)))))


class GRUEnhance(nn.Module):
    """Speech enhancement: [B, samples] at 16 kHz -> [B, samples]; a mask of 0 to 1 on each magnitude, the noisy phase."""

    def __init__(self, channels: int = 80, hidden: int = 96) -> None:
        super().__init__()
        self.spectrum = Spectrum()
        self.bands = Causal(BINS, channels, 1)
        self.context = Causal(channels, channels, 3)
        self.gru = nn.GRU(channels, hidden, num_layers=2, batch_first=True)
        self.merge = Causal(channels + hidden, hidden, 1)
        self.mask = nn.Conv1d(hidden, BINS, 1)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, samples]."""
        spectrum = self.spectrum(wave)
        features = torch.log(spectrum.square().sum(-1) + 1e-5) * 0.2 + 0.5  # [B, BINS, T], near unit variance
        local = self.context(self.bands(features))
        hidden, _ = self.gru(local.transpose(1, 2))
        merged = self.merge(torch.cat([local, hidden.transpose(1, 2)], dim=1))
        mask = torch.sigmoid(self.mask(merged))
        return self.spectrum.inverse(spectrum * mask.unsqueeze(-1), wave.shape[-1])


def gru_enhance() -> GRUEnhance:
    """Return the untrained model."""
    return GRUEnhance()


def load(weights: str | Path) -> GRUEnhance:
    """Return the model with weights from a safetensors file, in eval mode."""
    from safetensors.torch import load_file

    model = gru_enhance()
    model.load_state_dict(load_file(weights))
    return model.eval()
