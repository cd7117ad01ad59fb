"""Mixtures of clean recorded speech and noise, 1.5 s each, made on the fly."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from sample_models.gru_enhance.model import SAMPLE_RATE

CANVAS = 3 * SAMPLE_RATE // 2  # samples
SNR_RANGE = (-5.0, 15.0)  # dB
LEVEL_RANGE = (-35.0, -15.0)  # dB, RMS of the mixture against full scale
GAP = SAMPLE_RATE // 4  # samples, longest pause between two clips
CLEAN = 20.0  # dB, least ratio of speech to pauses in a clip that serves as clean speech

Batch = tuple[Tensor, Tensor]  # noisy and clean samples, both [B, CANVAS]


@cache
def recordings(folder: Path, split: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clean speech and noise of one split as int16 samples, read once."""
    speech = [row for row in _rows(folder / "speech.csv", split) if _clean(row)]
    noise = [row for row in _rows(folder / "noise.csv", split) if row["human_voice"] != "yes"]
    if not speech or not noise:
        raise ValueError(f"no speech or no noise in split {split!r} of {folder}")
    return [_read(folder, row) for row in speech], [_read(folder, row) for row in noise]


def _rows(manifest: Path, split: str) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def _clean(row: dict[str, str]) -> bool:
    """Whether the pauses are quiet; clips without a pause to tell by are left out."""
    return bool(row["speech_segments"]) and float(row["snr_db"] or 0.0) >= CLEAN


def _read(folder: Path, row: dict[str, str]) -> np.ndarray:
    """Read one 16 kHz mono file; speech from its first to its last labelled segment."""
    samples, rate = sf.read(folder / row["path"], dtype="int16")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise ValueError(f"{row['path']}: expected {SAMPLE_RATE} Hz mono")
    edges = [float(edge) for edge in row.get("speech_segments", "").replace(";", "-").split("-") if edge]
    first, last = (int(min(edges) * SAMPLE_RATE), int(max(edges) * SAMPLE_RATE)) if edges else (0, len(samples))
    return samples[first:last]


class Mixtures:
    """Endless seeded mixtures from one split ('train', 'val' or 'test') of a data folder."""

    def __init__(self, data_dir: str | Path, split: str, seed: int) -> None:
        self.speech, self.noise = recordings(Path(data_dir), split)
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self._odds = np.cumsum([len(clip) for clip in self.speech], dtype=np.float64)  # by length

    def batch(self, batch_size: int) -> Batch:
        """Next mixtures of the stream: noisy and clean samples, [B, CANVAS] float32 each."""
        noisy, clean, _ = self._draw(batch_size, self.rng)
        return noisy, clean

    def fixed(self, n: int, batch_size: int = 40) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The same `n` mixtures for the same seed on every call: noisy, clean and SNR [B] in dB, in batches."""
        rng = np.random.default_rng([self.seed, 1])
        return [self._draw(min(batch_size, n - start), rng) for start in range(0, n, batch_size)]

    def _draw(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        noisy, clean = np.empty((2, size, CANVAS), dtype=np.float32)
        snr = rng.uniform(*SNR_RANGE, size).astype(np.float32)
        for i in range(size):
            speech, noise = self._speech(rng), self._noise(rng)
            noise *= _rms(speech) / _rms(noise) * 10.0 ** (-snr[i] / 20.0)
            mixture = speech + noise
            gain = 10.0 ** (rng.uniform(*LEVEL_RANGE) / 20.0) / _rms(mixture)
            gain = min(gain, 1.0 / float(np.abs(mixture).max()))  # peak at most full scale
            noisy[i], clean[i] = mixture * gain, speech * gain
        return torch.from_numpy(noisy), torch.from_numpy(clean), torch.from_numpy(snr)

    def _speech(self, rng: np.random.Generator) -> np.ndarray:
        """Clips one after the other, each at a level of its own, with short pauses: [CANVAS]."""
        wave = np.zeros(CANVAS, dtype=np.float32)
        start = -int(rng.integers(GAP))  # the first clip may have begun before
        while start < CANVAS:
            clip = self.speech[
                min(int(np.searchsorted(self._odds, rng.random() * self._odds[-1])), len(self.speech) - 1)
            ]
            skip = int(rng.integers(max(len(clip) - CANVAS, 0) + 1)) + max(-start, 0)
            samples = clip[skip : skip + CANVAS - max(start, 0)].astype(np.float32)
            samples *= 10.0 ** (rng.uniform(-3.0, 3.0) / 20.0) / _rms(samples)
            start = max(start, 0)
            wave[start : start + len(samples)] = samples
            start += len(samples) + int(rng.integers(GAP))
        return wave

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        """A random noise recording from a random start, repeated to fill the canvas: [CANVAS]."""
        clip = self.noise[int(rng.integers(len(self.noise)))]
        start = int(rng.integers(len(clip)))
        return np.resize(np.concatenate([clip[start:], clip[:start]]), CANVAS).astype(np.float32)


def _rms(samples: np.ndarray) -> float:
    """Root mean square with a floor, so that digital silence stays silent."""
    return max(float(np.sqrt(np.mean(np.square(samples)))), 1e-3) if len(samples) else 1e-3
