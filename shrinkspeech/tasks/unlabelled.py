"""A recipe from nothing but audio: random crops of it, and the original model's outputs as the goal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from shrinkspeech.data.audio import audio_files
from shrinkspeech.defaults import SAMPLE_RATE
from shrinkspeech.errors import AudioError
from shrinkspeech.fitting.recipe import Recipe


@dataclass(frozen=True)
class Clip:
    """One audio file and its length in samples."""

    path: Path
    samples: int


def distil_recipe(
    audio_dir: str | Path,
    seconds: float,
    batch_size: int,
    sample_rate: int = SAMPLE_RATE,
    seed: int = 0,
    *,
    channel: bool = False,
) -> Recipe:
    """Batches of random crops, without a loss: the fit then trains towards the original's outputs.

    Every second of audio is as likely as any other; a file that is shorter than a crop is followed by silence, and
    several channels are averaged. Each start of ``train_batches`` gives the same endless stream.

    Args:
        audio_dir: folder that is searched with all folders in it.
        seconds: length of a crop, in s.
        sample_rate: rate of every file, in Hz.
        channel: whether batches are ``[B, 1, samples]`` rather than ``[B, samples]``.

    Raises:
        AudioError: no audio in the folder, a file that cannot be read, or one of another rate.
    """
    clips = find_clips(Path(audio_dir), sample_rate)
    length = max(1, round(seconds * sample_rate))
    odds = np.array([clip.samples for clip in clips], dtype=np.float64)
    odds /= odds.sum()

    def train_batches() -> Iterator[Tensor]:
        rng = np.random.default_rng(seed)
        while True:
            chosen = rng.choice(len(clips), size=batch_size, p=odds)
            crops = np.stack([_crop(clips[index], length, rng) for index in chosen])
            batch = torch.from_numpy(crops)
            yield batch.unsqueeze(1) if channel else batch

    return Recipe(train_batches=train_batches, loss=None, name=str(audio_dir))


def find_clips(folder: Path, sample_rate: int) -> list[Clip]:
    """All audio below a folder, in the order of its names.

    Raises:
        AudioError: there is none, a file cannot be read, or its rate is not ``sample_rate`` (Hz).
    """
    if not folder.is_dir():
        raise AudioError(f"there is no folder {folder}: give a folder of audio files to --audio")
    clips = [clip for clip in (_clip(path, sample_rate) for path in audio_files(folder)) if clip.samples]
    if not clips:
        raise AudioError(f"there is no audio in {folder}: put WAV, FLAC, OGG or MP3 files of {sample_rate} Hz there")
    return clips


def _clip(path: Path, sample_rate: int) -> Clip:
    try:
        info = sf.info(str(path))
    except Exception as error:
        raise _unreadable(path, error) from error
    if info.samplerate != sample_rate:
        raise AudioError(
            f"{path} has {info.samplerate} Hz where {sample_rate} Hz is needed: "
            f"resample it, or give --sample-rate {info.samplerate} if the model takes that rate"
        )
    return Clip(path, int(info.frames))


def _unreadable(path: Path, error: Exception) -> AudioError:
    said = " ".join(str(error).split()).removeprefix(f"Error opening '{path}': ").rstrip(".")
    return AudioError(f"cannot read the audio file {path}: remove it or convert it to WAV or FLAC ({said})")


def _crop(clip: Clip, length: int, rng: np.random.Generator) -> np.ndarray:
    """``length`` samples from a random start: ``[length]`` float32."""
    start = int(rng.integers(0, max(clip.samples - length, 0) + 1))
    try:
        with sf.SoundFile(str(clip.path)) as file:
            file.seek(start)
            samples = file.read(length, dtype="float32", always_2d=True).mean(axis=1)
    except Exception as error:
        raise _unreadable(clip.path, error) from error
    return np.pad(samples, (0, length - len(samples)))
