"""Clips of one split, balanced draws of crops from them, and the features of fixed crops."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from shrinkspeech.data.frontend import FrontEnd, parse_features

RATE = 16_000  # Hz
FEATURES = "lfcc:60,20ms,10ms,high=4000"  # as `--features` takes it; no higher, for channels differ there
CROP = 20_480  # samples, 1.28 s
FRAMES = CROP // 160 + 1


@dataclass(frozen=True)
class Clip:
    """One recording: samples float32, whether it is bona fide, and the system that made it (its corpus if none did)."""

    samples: np.ndarray
    bonafide: bool
    system: str
    source: str


@cache
def front_end(features: str = FEATURES) -> FrontEnd:
    """The tool's own front end: [B, samples] -> [B, frames, coefficients]."""
    return FrontEnd(parse_features(features), RATE, "TF")


@cache
def read_clips(folder: Path, split: str) -> tuple[Clip, ...]:
    """All clips of a split of spoof.csv: `dur` seconds from `start` alone, since clip starts would tell the label."""
    with (folder / "spoof.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    clips = []
    for row in rows:
        start, count = (round(float(row[key]) * RATE) for key in ("start", "dur"))
        samples, rate = sf.read(folder / row["path"], dtype="float32", start=start, frames=count)
        if rate != RATE or samples.ndim != 1:
            raise ValueError(f"{row['path']}: expected {RATE} Hz mono")
        clips.append(Clip(samples, row["label"] == "bonafide", row["corpus"], row["source_corpus"]))
    return tuple(clips)


def crop(samples: np.ndarray, place: float) -> np.ndarray:
    """CROP samples: `place` 0 is the first crop of a clip and 1 its last; a shorter clip is repeated."""
    if len(samples) < CROP:
        return np.resize(samples, CROP)
    start = round(place * (len(samples) - CROP))
    return samples[start : start + CROP]


def fixed_crops(clips: tuple[Clip, ...], count: int) -> Tensor:
    """Crops at even places of every clip: [clips * count, CROP], the crops of one clip side by side."""
    places = np.linspace(0.0, 1.0, count)
    return torch.from_numpy(np.stack([crop(clip.samples, place) for clip in clips for place in places]))


class Draws:
    """Endless seeded crops of the training clips: both classes alike, and the groups of a class in fixed shares.

    A group is a system and its speech corpus; its share grows with the root of its clips, so that small ones count.
    """

    def __init__(self, clips: tuple[Clip, ...], seed: int) -> None:
        self.clips = clips
        self.rng = np.random.default_rng(seed)
        groups: dict[tuple[bool, str, str], int] = {}
        keys = [(clip.bonafide, clip.system, clip.source) for clip in clips]
        for key in keys:
            groups[key] = groups.get(key, 0) + 1
        odds = np.array([groups[key] ** -0.5 for key in keys])
        for label in (False, True):
            chosen = np.array([clip.bonafide == label for clip in clips])
            odds[chosen] /= 2 * odds[chosen].sum()
        self.odds = odds

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Waves [size, CROP] and labels [size], 1 for bona fide."""
        chosen = self.rng.choice(len(self.clips), size, p=self.odds)
        waves = np.stack([crop(self.clips[i].samples, self.rng.random()) for i in chosen])
        labels = np.array([self.clips[i].bonafide for i in chosen], dtype=np.float32)
        return torch.from_numpy(waves), torch.from_numpy(labels)
