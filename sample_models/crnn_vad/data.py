"""Three-second mixtures of recorded speech and noise with 10 ms speech labels, made on the fly."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from sample_models.crnn_vad.model import HOP, SAMPLE_RATE

CANVAS = 3 * SAMPLE_RATE  # samples
SNR_RANGE = (-5.0, 20.0)  # dB
LEVEL_RANGE = (-35.0, -15.0)  # dB, RMS of the mixture against full scale
CLIP_TIME = (0.9, 2.9)  # seconds, most speech clip time in one mixture
FADE = 80  # samples, 5 ms at both ends of a cropped clip

Batch = tuple[Tensor, Tensor]
Measured = tuple[Tensor, Tensor, Tensor]  # wave [B, CANVAS], labels [B, frames], snr [B] in dB


@dataclass(frozen=True)
class Clip:
    """One recording: samples as int16 and a speech mask of the same length (all False for noise)."""

    samples: np.ndarray
    speech: np.ndarray


def _rows(manifest: Path, split: str) -> list[dict[str, str]]:
    """Rows of one manifest in one split, in file order."""
    with manifest.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def _mask(segments: str, length: int) -> np.ndarray:
    """Turn 'start-end;start-end' (seconds) into a boolean mask of `length` samples."""
    mask = np.zeros(length, dtype=bool)
    for segment in filter(None, segments.split(";")):
        start, end = (round(float(edge) * SAMPLE_RATE) for edge in segment.split("-"))
        mask[start:end] = True
    return mask


def _read(folder: Path, row: dict[str, str]) -> Clip:
    """Read one 16 kHz mono file and its speech segments."""
    samples, rate = sf.read(folder / row["path"], dtype="int16")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise ValueError(f"{row['path']}: expected {SAMPLE_RATE} Hz mono")
    return Clip(samples, _mask(row.get("speech_segments", ""), len(samples)))


def _rms(samples: np.ndarray) -> float:
    """Root mean square with a floor, so that digital silence stays silent."""
    return max(float(np.sqrt(np.mean(np.square(samples)))), 1e-5) if len(samples) else 1e-5


def _amplitude(decibels: float) -> float:
    return 10.0 ** (decibels / 20.0)


class Mixtures:
    """Endless seeded mixtures from one split ('train', 'val' or 'test') of a data folder."""

    def __init__(self, data_dir: str | Path, split: str, seed: int) -> None:
        folder = Path(data_dir)
        speech = [_read(folder, row) for row in _rows(folder / "speech.csv", split)]
        noise_rows = [r for r in _rows(folder / "noise.csv", split) if r["human_voice"] != "yes"]
        self.speech = [clip for clip in speech if clip.speech.any()]
        self.noise = [_read(folder, row) for row in noise_rows]
        if not self.speech or not self.noise:
            raise ValueError(f"no speech or no noise in split {split!r} of {folder}")
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        lengths = np.array([len(clip.samples) for clip in self.speech], dtype=np.float64)
        self._odds = np.cumsum(lengths / lengths.sum())  # longer clips are drawn more often

    def batch(self, batch_size: int) -> Batch:
        """Next mixtures of the stream: wave [B, CANVAS] float32, labels [B, frames] 0 or 1 float32."""
        wave, labels, _ = self._draw(batch_size, self.rng)
        return wave, labels

    def fixed(self, n: int, batch_size: int = 30) -> list[Batch]:
        """The same `n` mixtures for the same seed on every call, in batches as `batch` returns them."""
        return [(wave, labels) for wave, labels, _ in self.fixed_with_snr(n, batch_size)]

    def fixed_with_snr(self, n: int, batch_size: int = 30) -> list[Measured]:
        """As `fixed`, with the signal-to-noise ratio of each mixture: wave, labels, snr [B] in dB."""
        return list(self._fixed(n, batch_size))

    def _fixed(self, n: int, batch_size: int) -> Iterator[Measured]:
        rng = np.random.default_rng([self.seed, 1])
        for start in range(0, n, batch_size):
            yield self._draw(min(batch_size, n - start), rng)

    def _draw(self, size: int, rng: np.random.Generator) -> Measured:
        mixtures = [self._mixture(rng) for _ in range(size)]
        wave, labels, snr = (np.stack(part).astype(np.float32) for part in zip(*mixtures, strict=True))
        return torch.from_numpy(wave), torch.from_numpy(labels), torch.from_numpy(snr)

    def _mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        """One mixture: wave [CANVAS], labels [CANVAS // HOP + 1] and its SNR in dB."""
        wave, mask = self._speech(rng)
        snr = rng.uniform(*SNR_RANGE)
        speech_level = _rms(wave[mask[:-1]])
        noise = self._noise(rng)
        wave = wave + noise * (speech_level / _rms(noise) / _amplitude(snr))
        gain = _amplitude(rng.uniform(*LEVEL_RANGE)) / _rms(wave)
        wave *= min(gain, 1.0 / float(np.abs(wave).max()))  # peak at most full scale
        return wave, mask[::HOP], snr

    def _speech(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One to three clips with silent gaps: wave [CANVAS] and speech mask [CANVAS + 1]."""
        wave, mask = np.zeros(CANVAS, dtype=np.float32), np.zeros(CANVAS + 1, dtype=bool)
        count = int(rng.integers(1, 4))
        limit = int(rng.uniform(*CLIP_TIME) * SAMPLE_RATE) // count
        clips = [self._clip(rng, limit) for _ in range(count)]
        gaps = rng.dirichlet(np.ones(count + 1)) * (CANVAS - sum(len(samples) for samples, _ in clips))
        start = 0
        for (samples, speech), gap in zip(clips, gaps, strict=False):
            start += int(gap)
            wave[start : start + len(samples)] = samples
            mask[start : start + len(samples)] = speech
            start += len(samples)
        return wave, mask

    def _clip(self, rng: np.random.Generator, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """A random clip cropped to `limit` samples, at unit speech level give or take 3 dB, and its mask."""
        index = int(np.searchsorted(self._odds, rng.random()))
        clip = self.speech[min(index, len(self.speech) - 1)]
        start = int(rng.integers(0, max(len(clip.samples) - limit, 0) + 1))
        samples = clip.samples[start : start + limit].astype(np.float32) / 32768.0
        level = _rms(clip.samples[clip.speech].astype(np.float32) / 32768.0)
        samples *= _amplitude(rng.uniform(-3.0, 3.0)) / level
        ramp = np.linspace(0.0, 1.0, FADE, dtype=np.float32)
        samples[:FADE] *= ramp
        samples[-FADE:] *= ramp[::-1]
        return samples, clip.speech[start : start + limit]

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        """A random noise recording from a random start, repeated to fill the canvas: [CANVAS]."""
        clip = self.noise[int(rng.integers(len(self.noise)))].samples
        positions = (int(rng.integers(len(clip))) + np.arange(CANVAS)) % len(clip)
        return clip[positions].astype(np.float32) / 32768.0
