"""The transformer voice activity detector, from 16 kHz waveform to one logit per 20 ms frame.

The log-mel bands are the model width: nothing projects them, so a band that goes takes its channel of every layer with it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models.crnn_vad.model import N_FFT, WINDOW, mel_filters

HOP = 320  # samples, 20 ms: attention costs a quarter of what it would at 10 ms
BANDS = 80
LAYERS = 3
HEADS = 4
EXPANSION = 2  # hidden units of a feed-forward layer for each band
CONTEXT = 15  # frames that the stem sees, the present one in the middle


class LogMel(nn.Module):
    """Waveform to normalised log-mel energies: [B, samples] -> [B, samples // HOP + 1, bands]."""

    window: Tensor
    filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW))
        self.register_buffer("filters", mel_filters(bands))  # [N_FFT // 2 + 1, bands]
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))

    def energies(self, wave: Tensor) -> Tensor:
        """Log-mel energies (natural log) before normalisation: [B, samples] -> [B, frames, bands]."""
        spectrum = torch.stft(wave, N_FFT, HOP, WINDOW, self.window, center=True, return_complex=True)
        squares = torch.view_as_real(spectrum).square()
        power = squares[..., 0] + squares[..., 1]  # a sum over two elements is slow
        return torch.log(power.transpose(1, 2) @ self.filters + 1e-6)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, bands]."""
        return (self.energies(wave) - self.mean) / self.std

    @torch.no_grad()
    def fit(self, wave: Tensor) -> None:
        """Set mean and std per band from example audio: [B, samples]."""
        energies = self.energies(wave).flatten(0, 1)
        self.mean.copy_(energies.mean(0))
        self.std.copy_(energies.std(0))


class Stem(nn.Module):
    """Adds to every band what its own neighbouring frames say: [B, T, bands] -> the same shape.

    It stands for a positional encoding: attention alone does not know which frames are near, and one filter for each band
    keeps the bands apart and runs at any length.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(bands, bands, CONTEXT, padding=CONTEXT // 2, groups=bands)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, bands] -> [B, T, bands]."""
        return x + F.gelu(self.conv(x.transpose(1, 2)).transpose(1, 2))


class Attention(nn.Module):
    """Self-attention over all frames: [B, T, bands] -> the same shape."""

    def __init__(self, bands: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(bands, bands) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        """[B, T, heads * width] -> [B, heads, T, width]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, bands] -> [B, T, bands]."""
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and added to its input: [B, T, bands] -> the same shape."""

    def __init__(self, bands: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(bands), nn.LayerNorm(bands)
        self.attention = Attention(bands, heads)
        self.inner = nn.Linear(bands, EXPANSION * bands)
        self.outer = nn.Linear(EXPANSION * bands, bands)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, bands] -> [B, T, bands]."""
        x = x + self.attention(self.norm1(x))
        return x + self.outer(F.gelu(self.inner(self.norm2(x))))


class TransformerVAD(nn.Module):
    """Voice activity detector: [B, samples] at 16 kHz -> logits [B, samples // HOP + 1], speech above 0."""

    def __init__(self, bands: int = BANDS, layers: int = LAYERS, heads: int = HEADS) -> None:
        super().__init__()
        self.features = LogMel(bands)
        self.stem = Stem(bands)
        self.layers = nn.Sequential(*(Layer(bands, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(bands)
        self.head = nn.Linear(bands, 1)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, samples] -> logits [B, frames]."""
        return self.head(self.norm(self.layers(self.stem(self.features(wave))))).squeeze(-1)


def transformer_vad() -> TransformerVAD:
    """Return the untrained model."""
    return TransformerVAD()


def load(weights: str | Path) -> TransformerVAD:
    """Return the model with weights from a safetensors file, in eval mode."""
    from safetensors.torch import load_file

    model = transformer_vad()
    model.load_state_dict(load_file(weights))
    return model.eval()
