"""What the user chooses about data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shrinkspeech.defaults import BATCH_SIZE, SAMPLE_RATE
from shrinkspeech.errors import InputError
from shrinkspeech.processes import on_this_machine


@dataclass(frozen=True)
class DataOptions:
    """Where examples come from and how they are made.

    Attributes:
        manifest: CSV, TSV or JSON lines, one clip a row.
        val: manifest to validate on; without it the rows that ``manifest`` marks, or a share of them.
        label_column: column of the labels; found by its name if not given.
        labels: the labels in the order of the model's outputs; sorted if not given.
        where, noise_where: conditions on the columns of the clips and of the noise, ``column=value`` or
            ``column!=value``; all must hold.
        crop: length of an example in s; None takes the length of the model's example.
        pad: how a clip that is shorter is filled: ``silence`` or ``repeat``.
        noise: manifest of noise to mix in.
        snr: range of signal-to-noise ratios in dB.
        rir: manifest of room impulse responses.
        gain: range of gains in dB, for training alone.
        features: front end for models that take features, such as ``logmel:80,25ms,10ms``.
        masks: SpecAugment-like masks in time and in frequency, with features, for training alone.
        batch_size: examples in a batch.
        workers: processes that prepare batches; None for one fewer than cores, at most 4; 0 for none.
        val_fraction: share of the rows to validate on where the manifest does not say.
        val_items: validate on at most this many examples.
        cache_mb: audio up to this size is kept in memory, in MB.
        sample_rate: rate of the model's waveforms in Hz.
    """

    manifest: Path
    val: Path | None = None
    label_column: str | None = None
    labels: Sequence[str] | None = None
    where: Sequence[str] = ()
    crop: float | None = None
    pad: str = "silence"
    noise: Path | None = None
    noise_where: Sequence[str] = ()
    snr: tuple[float, float] = (-5.0, 20.0)
    rir: Path | None = None
    gain: tuple[float, float] | None = None
    features: str | None = None
    masks: int = 0
    batch_size: int = BATCH_SIZE
    workers: int | None = None
    val_fraction: float = 0.1
    val_items: int = 1000
    cache_mb: float = 1000.0
    sample_rate: int = SAMPLE_RATE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pad not in ("silence", "repeat"):
            raise InputError(f"cannot pad with '{self.pad}': --pad is silence or repeat")
        if self.crop is not None and self.crop <= 0:
            raise InputError("--crop must be above zero seconds")
        if not 0 < self.val_fraction < 1:
            raise InputError("--val-fraction must lie between 0 and 1")
        if self.batch_size < 1 or self.val_items < 1 or self.masks < 0:
            raise InputError("--batch-size and --val-items must be 1 or more, --masks 0 or more")
        if self.masks and not self.features:
            raise InputError("--masks hides parts of features: give --features too, or leave it out")

    @property
    def processes(self) -> int:
        """Worker processes: this one's cores but one, for the training has that one."""
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(0, min(4, cores // on_this_machine() - 1))


def parse_range(text: str, option: str) -> tuple[float, float]:
    """``-5:20`` as two numbers in dB; a single number is both ends.

    Raises:
        InputError: it is neither, or the first is above the second.
    """
    parts = text.split(":")
    try:
        low, high = (float(part) for part in (parts if len(parts) == 2 else parts * 2))
    except ValueError:
        low, high = 1.0, 0.0
    if not low <= high:
        raise InputError(f"cannot read {option} {text}: write the lowest and the highest value in dB, such as -5:20")
    return low, high


def parse_labels(text: str) -> tuple[str, ...]:
    """``yes,no,up`` as labels.

    Raises:
        InputError: a label is empty or comes twice.
    """
    labels = tuple(part.strip() for part in text.split(","))
    if not all(labels) or len(set(labels)) < len(labels):
        raise InputError(f"cannot read --labels {text}: write every label once with commas between, such as yes,no,up")
    return labels


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """``name=value`` by name.

    Raises:
        InputError: there is no ``=``, or a name comes twice.
    """
    pairs = [(name.strip(), value.strip()) for name, _, value in (text.partition("=") for text in texts)]
    settings = dict(pairs)
    if not all(name and value for name, value in pairs) or len(settings) < len(pairs):
        raise InputError(f"cannot read --set {' --set '.join(texts)}: write each name once with its value, name=value")
    return settings
