"""Keywords in noise: recorded words at random places of 1.2 s, with recorded noise over all of it, as log-mel features."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from sample_models.dscnn_kws.model import KEYWORDS
from shrinkspeech.data.augment import amplitude, fill_with, limited, mix
from shrinkspeech.data.frontend import FrontEnd, parse_features

SAMPLE_RATE = 16_000  # Hz
LENGTH = 19_200  # samples of an item, 1.2 s
SNR_RANGE = (-5.0, 15.0)  # dB, mean power of the clip against that of the noise
GAIN_RANGE = (-6.0, 6.0)  # dB
CORPUS = "picovoice_wakeword"

Batch = tuple[Tensor, Tensor]


def rows(manifest: Path, split: str) -> list[dict[str, str]]:
    """Rows of one manifest in one split, in file order."""
    with manifest.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def keyword_rows(folder: Path, split: str) -> list[dict[str, str]]:
    """Rows of the keywords in one split."""
    return [row for row in rows(folder / "speech.csv", split) if row["corpus"] == CORPUS]


def _read(path: Path) -> np.ndarray:
    """Samples of a 16 kHz mono file: [samples] float32."""
    samples, rate = sf.read(path, dtype="float32")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise ValueError(f"{path}: expected {SAMPLE_RATE} Hz mono")
    return samples


class Keywords:
    """Seeded noisy keywords from one split ('train', 'val' or 'test') of a data folder.

    Args:
        features: the front end, as `--features` takes it.
    """

    def __init__(self, data_dir: str | Path, split: str, features: str, seed: int) -> None:
        folder = Path(data_dir)
        words = keyword_rows(folder, split)
        noise = [row for row in rows(folder / "noise.csv", split) if row["human_voice"] != "yes"]
        if not words or not noise:
            raise ValueError(f"no keywords or no noise in split {split!r} of {folder}")
        self.words = [_read(folder / row["path"]) for row in words]
        self.classes = [KEYWORDS.index(row["text_or_label"]) for row in words]
        self.noise = [_read(folder / row["path"]) for row in noise]
        self.frontend = FrontEnd(parse_features(features), SAMPLE_RATE, "TF")
        self.seed = seed
        self.rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        """Next items of the stream: features [B, frames, bands], classes [B]; each keyword is as likely as any other."""
        wanted = self.rng.integers(len(KEYWORDS), size=size)
        chosen = [int(self.rng.choice(np.flatnonzero(np.equal(self.classes, keyword)))) for keyword in wanted]
        x, y, _ = self._draw(chosen, self.rng)
        return x, y

    def fixed(self, draws: int, batch_size: int = 60) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Every clip with `draws` noises, the same on every call: features, classes, SNR [B] in dB."""
        rng = np.random.default_rng([self.seed, 1])
        order = np.tile(np.arange(len(self.words)), draws)
        return [self._draw(order[i : i + batch_size].tolist(), rng) for i in range(0, len(order), batch_size)]

    def _draw(self, chosen: list[int], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        items = [self._item(self.words[index], rng) for index in chosen]
        wave = torch.from_numpy(np.stack([wave for wave, _ in items]))
        with torch.no_grad():
            x = self.frontend(wave).contiguous()
        return x, torch.tensor([self.classes[index] for index in chosen]), torch.tensor([snr for _, snr in items])

    def _item(self, word: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """One noisy word, [LENGTH] float32, and its SNR in dB."""
        spare = abs(LENGTH - len(word))
        wave = np.zeros(LENGTH, dtype=np.float32)
        if len(word) > LENGTH:  # long clips end in pauses: a cut near the middle keeps the word
            start = int(spare * rng.uniform(0.25, 0.75))
            wave[:], active = word[start : start + LENGTH], slice(None)
        else:
            start = int(rng.integers(spare + 1))
            active = slice(start, start + len(word))
            wave[active] = word
        snr = float(rng.uniform(*SNR_RANGE))
        noise = fill_with(self.noise[int(rng.integers(len(self.noise)))], LENGTH, rng)
        (wave,) = limited(wave + mix(wave, noise, snr, active))
        return wave * np.float32(amplitude(float(rng.uniform(*GAIN_RANGE)))), snr


def pool(words: Keywords, size: int) -> Batch:
    """The next `size` items of the stream at once."""
    parts = [words.batch(min(64, size - start)) for start in range(0, size, 64)]
    x, y = zip(*parts, strict=True)
    return torch.cat(x), torch.cat(y)


def batches_of(items: Batch, batch_size: int, seed: int) -> Iterator[Batch]:
    """Endless batches: each item once in every round, each time covered elsewhere, as the seed has it."""
    x, y = items
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(x), generator=generator)
        for chosen in order[: len(x) - len(x) % batch_size].split(batch_size):
            yield cover(cover(x[chosen], 1, generator), 2, generator), y[chosen]


def cover(x: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """A stripe of zeros (the mean) in every item, up to an eighth of the frames (1) or bands (2) wide: [B, T, F]."""
    size, count = x.shape[dim], len(x)
    width = torch.rand(count, 1, generator=generator) * (size // 8 + 1)
    start = torch.rand(count, 1, generator=generator) * (size - width)
    place = torch.arange(size)
    hidden = (place >= start.floor()) & (place < start.floor() + width.floor())
    return x.masked_fill(hidden.unsqueeze(3 - dim), 0.0)
