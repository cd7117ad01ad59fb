"""The audio that models are fitted to and measured on: the rows of the manifests, as samples at a model's rate."""

from __future__ import annotations

import csv
import functools
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

VARIABLE = "SHRINKSPEECH_TRAINED_AUDIO"
"""Names the folder with ``speech.csv``, ``noise.csv`` and ``spoof.csv``."""

Row = dict[str, str]


@functools.cache
def rows(table: str, split: str) -> tuple[Row, ...]:
    """The rows of one manifest that belong to a split."""
    with (Path(os.environ[VARIABLE]) / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(row for row in csv.DictReader(file) if row["split"] == split)


def wide(split: str) -> tuple[Row, ...]:
    """Speech with energy above 4 kHz."""
    return tuple(row for row in rows("speech", split) if row["corpus"] != "fsdd")


@functools.lru_cache(maxsize=4096)
def samples(path: str, rate: int, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """One clip, as ``[S]`` in float32."""
    with soundfile.SoundFile(Path(os.environ[VARIABLE]) / path) as file:
        file.seek(int(start * file.samplerate))
        found = file.read(-1 if seconds is None else int(seconds * file.samplerate), dtype="float32")
        return found if file.samplerate == rate else soxr.resample(found, file.samplerate, rate)


def cut(clip: np.ndarray, length: int, at: float = 0.5, repeat: bool = False) -> np.ndarray:
    """A piece of ``length`` samples, at a share of what is to spare; short clips are filled with silence or repeated."""
    if len(clip) < length:
        return np.resize(clip, length) if repeat else np.pad(clip, (0, length - len(clip)))
    begin = int(at * (len(clip) - length))
    return clip[begin : begin + length]


def words(split: str) -> tuple[Row, ...]:
    """Clips of one word."""
    return tuple(row for row in rows("speech", split) if row["corpus"] in ("fsdd", "picovoice_wakeword", "mycroft"))


def batches(rate: int, seconds: float, size: int, speech: Sequence[Row]) -> Iterator[Tensor]:
    """Endless random pieces of speech, ``[B, S]``; a third of them with noise at 0 to 20 dB."""
    drawn, length, noise = random.Random(0), round(seconds * rate), rows("noise", "train")
    while True:
        found = []
        for row in drawn.choices(speech, k=size):
            piece = cut(samples(row["path"], rate), length, drawn.random())
            if drawn.random() < 1 / 3:
                other = cut(samples(drawn.choice(noise)["path"], rate), length, drawn.random(), repeat=True)
                piece = mixed(piece, other, drawn.uniform(0, 20))
            found.append(piece)
        yield torch.from_numpy(np.stack(found))


def mixed(speech: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Speech with noise at a signal-to-noise ratio in dB."""
    power, other = float(np.mean(speech**2)), float(np.mean(noise**2))
    if not power or not other:
        return speech
    return (speech + noise * np.sqrt(power / other / 10 ** (snr / 10))).astype(np.float32)
