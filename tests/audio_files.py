"""Tiny audio files and manifests for tests, and sources of data that are opened on them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from shrinkspeech.data.items import Batch
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import Source, open_source

RATE = 8_000
LENGTH = 2_000  # samples of an example, 0.25 s


def tone(seconds: float, hz: float = 440.0, rate: int = RATE, level: float = 0.2) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def corpus(folder: Path, count: int = 12, labels: Sequence[str] = ("no", "yes")) -> Path:
    """Clips of 0.1 to 0.4 s, every fourth to validate on, with the first half marked as speech."""
    rows = []
    for i in range(count):
        seconds = 0.1 + 0.3 * i / count
        write(folder / f"clips/{i}.wav", tone(seconds, 200 + 50 * i))
        rows.append(
            {
                "path": f"clips/{i}.wav",
                "label": labels[i % len(labels)],
                "split": "val" if i % 4 == 3 else "train",
                "speech_segments": f"0-{seconds / 2}",
            }
        )
    return table(folder / "clips.csv", rows)


def noises(folder: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        write(folder / f"noise/{i}.wav", 0.05 * rng.standard_normal(1_500 + 800 * i).astype(np.float32))
    return table(folder / "noise.csv", [{"path": f"noise/{i}.wav", "class": "n"} for i in range(count)])


def rooms(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    response = rng.standard_normal(400) * np.exp(-np.arange(400) / 60)
    response[5] = 4.0
    write(folder / "room.wav", response.astype(np.float32) / 4)
    return table(folder / "rooms.csv", [{"path": "room.wav"}])


def opened(manifest: Path, kind: str = "class", length: int = LENGTH, **options: Any) -> Source:
    return open_source(DataOptions(manifest, sample_rate=RATE, workers=0, batch_size=4, **options), kind, length)


def first(source: Source, count: int = 4, workers: int = 0) -> list[Batch]:
    stream = source.train(workers=workers)
    return [next(stream) for _ in range(count)]


def same(one: Sequence[Batch], two: Sequence[Batch]) -> bool:
    return all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for x, y in zip(one, two, strict=True)
        for a, b in zip(x, y, strict=True)
    )
