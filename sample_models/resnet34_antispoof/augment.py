"""Changes of the channel that say nothing of the label: filters, band limits, noise, gain, and masks of features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RATE = 16_000  # Hz


@dataclass(frozen=True)
class Channel:
    """How strong the changes are."""

    tilt: float = 4.0  # dB, deviation of each of the cosines that make up a random filter
    cosines: int = 5
    lowpass: float = 0.5  # share of the crops that lose their highest frequencies
    cutoff: tuple[float, float] = (3_000.0, 7_800.0)  # Hz
    noise: float = 0.7  # share of the crops with noise
    snr: tuple[float, float] = (10.0, 45.0)  # dB
    level: tuple[float, float] = (-38.0, -14.0)  # dB of full scale, root mean square
    masks: int = 2  # in time and in frequency
    mask_share: float = 0.15  # of the frames or coefficients, at most


def response(size: int, bins: int, channel: Channel, rng: np.random.Generator) -> Tensor:
    """Random gains over frequency: [size, bins], even in frequency from 0 to RATE / 2."""
    steps = np.arange(1, channel.cosines + 1)[:, None] * np.linspace(0.0, math.pi, bins)
    weights = rng.normal(size=(size, channel.cosines)) * channel.tilt
    gains = 10.0 ** (weights @ np.cos(steps) / 20.0)
    cutoff = rng.uniform(*channel.cutoff, size=(size, 1))
    cutoff[rng.random(size) >= channel.lowpass] = RATE
    depth = rng.uniform(20.0, 80.0, size=(size, 1))  # dB that the stop band is down
    width = rng.uniform(50.0, 500.0, size=(size, 1))  # Hz of the slope
    slope = np.clip((np.linspace(0.0, RATE / 2, bins) - cutoff) / width, 0.0, 1.0)
    return torch.from_numpy((gains * 10.0 ** (-depth * slope / 20.0)).astype(np.float32))


def noises(size: int, samples: int, rng: np.random.Generator) -> Tensor:
    """Coloured noise of unit power, from violet-ish to brown-ish: [size, samples]."""
    bins = samples // 2 + 1
    spectrum = rng.normal(size=(size, bins, 2)).astype(np.float32)
    slope = rng.uniform(-0.3, 1.2, size=(size, 1))  # amplitude falls as frequency to this power
    shape = (np.arange(1, bins + 1) / bins) ** -slope
    noise = torch.fft.irfft(
        torch.view_as_complex(torch.from_numpy(spectrum)) * torch.from_numpy(shape).float(), samples
    )
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def change_channel(waves: Tensor, channel: Channel, rng: np.random.Generator) -> Tensor:
    """The same speech through other channels: [B, samples] -> [B, samples]."""
    size, samples = waves.shape
    level = waves.square().mean(1, keepdim=True).sqrt().clamp_min(1e-5)
    snr = torch.from_numpy(rng.uniform(*channel.snr, size=(size, 1)).astype(np.float32))
    factor = torch.where(torch.from_numpy(rng.random((size, 1)) < channel.noise), 10.0 ** (-snr / 20.0), 0.0)
    waves = waves + noises(size, samples, rng) * level * factor
    spectrum = torch.fft.rfft(waves) * response(size, samples // 2 + 1, channel, rng)
    waves = torch.fft.irfft(spectrum, samples)
    wanted = torch.from_numpy((10.0 ** (rng.uniform(*channel.level, size=(size, 1)) / 20.0)).astype(np.float32))
    return waves * wanted / waves.square().mean(1, keepdim=True).sqrt().clamp_min(1e-7)


def mask(features: Tensor, channel: Channel, rng: np.random.Generator) -> Tensor:
    """Masks in time and over coefficients, filled with the item's mean of each coefficient: [B, T, C]."""
    mean = features.mean(1, keepdim=True)
    hidden = np.zeros(features.shape, dtype=bool)
    for item in hidden:
        for _ in range(channel.masks):
            for axis in (0, 1):
                size = item.shape[axis]
                width = int(rng.integers(0, int(channel.mask_share * size) + 1))
                start = int(rng.integers(0, size - width + 1))
                item[(slice(None),) * axis + (slice(start, start + width),)] = True
    return torch.where(torch.from_numpy(hidden), mean, features)
