"""Crop, pad, noise, rooms, gain and masks. Everything is drawn from the generator that is handed in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shrinkspeech.data.audio import Floats

FLOOR = 1e-5
"""Levels below this (−100 dB of full scale) count as silence."""


def rms(samples: Floats) -> float:
    """Root mean square, 0 for nothing."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def fit_length(samples: Floats, length: int, offset: int, pad: str) -> tuple[Floats, int, int]:
    """``length`` samples.

    Args:
        offset: where a longer clip is cut or a shorter one is put into the silence.
        pad: ``silence`` or ``repeat``.

    Returns:
        the samples, where in them the clip begins (negative if its start was cut off), and how many are real.
    """
    if len(samples) >= length:
        return samples[offset : offset + length], -offset, length
    if pad == "repeat":
        return np.resize(samples, length), 0, length
    filled = np.zeros(length, dtype=np.float32)
    filled[offset : offset + len(samples)] = samples
    return filled, offset, len(samples)


def fill_with(noise: Floats, length: int, rng: np.random.Generator) -> Floats:
    """A random piece of noise, repeated where it is too short: ``[length]``."""
    if len(noise) >= length:
        start = int(rng.integers(0, len(noise) - length + 1))
        return noise[start : start + length]
    return np.take(noise, (int(rng.integers(len(noise))) + np.arange(length)) % len(noise))


def mix(signal: Floats, noise: Floats, snr: float, active: np.ndarray | slice = slice(None)) -> Floats:
    """Noise scaled so that the power of the signal where it is ``active`` is ``snr`` dB above the noise's.

    Silence on either side leaves nothing to scale: the noise is then returned as silence.
    """
    level, own = rms(signal[active]), rms(noise)
    if level < FLOOR or own < FLOOR:
        return np.zeros_like(noise)
    return (noise * (level / own / 10.0 ** (snr / 20.0))).astype(np.float32)


def reverberate(samples: Floats, response: Floats) -> Floats:
    """The samples in a room: ``[samples]``, at the same level.

    The response is cut to begin with its highest peak, the direct sound, so that labels stay in place.
    """
    response = response[int(np.argmax(np.abs(response))) :]
    size = len(samples) + len(response) - 1
    size = 1 << (size - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    level = rms(wet.astype(np.float32))
    return (wet * (rms(samples) / level if level > 0 else 0.0)).astype(np.float32)


def amplitude(decibels: float) -> float:
    """A gain in dB as a factor."""
    return float(10.0 ** (decibels / 20.0))


def limited(*parts: Floats) -> tuple[Floats, ...]:
    """All parts by one factor so that the first does not exceed full scale."""
    peak = float(np.abs(parts[0]).max(initial=0.0))
    return parts if peak <= 1.0 else tuple((part / peak).astype(np.float32) for part in parts)


def mask_features(features: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """``count`` masks in frequency and as many in time, filled with the mean: ``[F, T]``.

    A mask covers up to an eighth of the bands or of the frames.
    """
    features, mean = features.clone(), features.mean()
    for _ in range(count):
        for dim in (0, 1):
            size = features.shape[dim]
            width = int(rng.integers(0, max(size // 8, 1) + 1))
            start = int(rng.integers(0, size - width + 1))
            features.narrow(dim, start, width).fill_(mean)
    return features


def as_tensor(samples: Floats) -> Tensor:
    """The same samples as a tensor of its own."""
    return torch.from_numpy(np.array(samples, dtype=np.float32))
