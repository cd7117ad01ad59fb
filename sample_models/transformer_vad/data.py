"""The mixtures of the CRNN detector with a label for every 20 ms: pools of them to train on, fixed ones to measure."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sample_models.crnn_vad.data import CANVAS, Batch, Measured, Mixtures
from sample_models.crnn_vad.model import HOP as LABEL_HOP
from sample_models.transformer_vad.model import HOP

STRIDE = HOP // LABEL_HOP  # the mixtures have a label for every 10 ms
CROP = 32_000  # samples, 2 s
POOL = 800  # mixtures
FULL_SCALE = 32_767.0


@cache
def _loaded(data_dir: Path, split: str) -> Mixtures:
    """The clips of one split, read once."""
    return Mixtures(data_dir, split, 0)


def mixtures(data_dir: Path, split: str, seed: int) -> Mixtures:
    """A seeded stream of mixtures over clips that are shared in memory."""
    stream = copy.copy(_loaded(data_dir, split))
    stream.seed, stream.rng = seed, np.random.default_rng(seed)
    return stream


def crop(wave: Tensor, labels: Tensor, rng: np.random.Generator) -> Batch:
    """A piece of each mixture: [B, CANVAS] and [B, frames] -> wave [B, CROP], labels [B, CROP // HOP + 1]."""
    starts = [int(start) for start in rng.integers(0, (CANVAS - CROP) // HOP + 1, len(wave))]  # frames
    pairs = zip(wave, labels, starts, strict=True)
    parts = [(w[s * HOP : s * HOP + CROP], y[s : s + CROP // HOP + 1]) for w, y, s in pairs]
    waves, targets = zip(*parts, strict=True)
    return torch.stack(waves), torch.stack(targets)


@lru_cache(maxsize=2)
def _pool(data_dir: Path, seed: int) -> tuple[Tensor, Tensor]:
    """Prepared training mixtures: wave [POOL, CANVAS] int16, labels [POOL, frames]."""
    wave, labels = mixtures(data_dir, "train", seed).batch(POOL)
    return (wave * FULL_SCALE).round().to(torch.int16), labels[:, ::STRIDE].contiguous()


def pooled(data_dir: Path, seed: int, size: int) -> Iterator[Batch]:
    """Endless crops of the pool, every mixture once before any comes again: the same batches for the same seed."""
    wave, labels = _pool(data_dir, seed)
    rng = np.random.default_rng([seed, 2])
    while True:
        order = torch.from_numpy(rng.permutation(POOL))
        for chosen in order.split(size):
            if len(chosen) == size:
                yield crop(wave[chosen].float() / FULL_SCALE, labels[chosen], rng)


@cache
def fixed(data_dir: Path, split: str, seed: int, n: int) -> list[Measured]:
    """The same `n` mixtures as the CRNN detector is measured on for this seed, in batches of 30."""
    drawn = mixtures(data_dir, split, seed).fixed_with_snr(n)
    return [(wave, labels[:, ::STRIDE].contiguous(), snr) for wave, labels, snr in drawn]
