"""A row becomes one example. All that is random in it follows from the seed and its position in the stream alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shrinkspeech.data.audio import Floats, read
from shrinkspeech.data.augment import (
    FLOOR,
    amplitude,
    as_tensor,
    fill_with,
    fit_length,
    limited,
    mask_features,
    mix,
    reverberate,
    rms,
)
from shrinkspeech.data.checking import Fault
from shrinkspeech.data.clips import Clips
from shrinkspeech.data.frontend import FrontEnd
from shrinkspeech.errors import AudioError

TRACK_RATE = 1000
"""Frames of a speech track in 1/s; a task reads it at the times of the model's own frames."""

MEAN_GAP = 0.5
"""Mean pause between the clips of one example in s, or as long as the clip before if that is shorter."""

ROOM_ODDS = 0.5
"""Share of the training examples that get a room."""

Key = tuple[int, int]
"""Position in the stream, and index of the row."""


@dataclass(frozen=True)
class Plan:
    """How examples are made.

    Attributes:
        kind: what the target is: ``class``, ``speaker``, ``speech``, ``clean`` or ``none``.
        length: samples of an example.
        classes: index of every label, for ``class`` and ``speaker``.
        training: whether gain, rooms and masks are drawn, and clips cut at random.
    """

    kind: str
    length: int
    rate: int
    seed: int
    training: bool
    classes: dict[str, int] = field(default_factory=dict)
    pad: str = "silence"
    snr: tuple[float, float] = (-5.0, 20.0)
    gain: tuple[float, float] | None = None
    masks: int = 0


class Batch(NamedTuple):
    """Examples.

    Attributes:
        x: samples ``[B, S]`` or features ``[B, F, T]``.
        target: indices ``[B]`` of classes or speakers, speech tracks ``[B, TRACK_RATE * s]`` (0 or 1),
            clean samples ``[B, S]``, or zeros ``[B]``.
        lengths: samples ``[B]`` of each that are not padding.
        snr: dB ``[B]``; NaN where no noise was mixed in.
        rows: index ``[B]`` of each clip among those of its split; empty where that is not known.
    """

    x: Tensor
    target: Tensor
    lengths: Tensor
    snr: Tensor
    rows: Tensor = torch.empty(0, dtype=torch.int64)


class Example(NamedTuple):
    """One row of a ``Batch``, and the clips that could not be read on the way, with the names of their manifests."""

    values: tuple[Tensor, Tensor, int, float, int]
    faults: tuple[tuple[str, Fault], ...]


class Items(Dataset[Example]):
    """Examples by (position in the stream, index of the row)."""

    def __init__(
        self,
        clips: Clips,
        plan: Plan,
        noise: Clips | None = None,
        rooms: Clips | None = None,
        frontend: FrontEnd | None = None,
    ) -> None:
        self.clips, self.plan, self.noise, self.rooms, self.frontend = clips, plan, noise, rooms, frontend
        self.ticks = np.minimum(np.arange(plan.length) * TRACK_RATE // plan.rate, self.track_length - 1)

    @property
    def track_length(self) -> int:
        return max(1, round(self.plan.length * TRACK_RATE / self.plan.rate))

    def visits(self) -> list[int]:
        """How often each row comes before the stream begins anew: once; where there are no targets as often as it holds
        an example, so that every second of audio is as likely as any other."""
        count, length = len(self.clips), self.plan.length
        return [
            max(1, round(self.clips.samples(row) / length)) if self.plan.kind == "none" else 1 for row in range(count)
        ]

    def __getitem__(self, key: Key) -> Example:
        """The example; a row that cannot be read gives its place to the next one."""
        position, index = key
        faults: list[tuple[str, Fault]] = []
        for attempt in range(len(self.clips)):
            rng = np.random.default_rng([self.plan.seed, int(self.plan.training), position])
            row = (index + attempt) % len(self.clips)
            try:
                values = self.make(row, rng, faults)
            except AudioError as error:
                faults.append(self.clips.fault(row, error))
                continue
            return Example((*values, row), tuple(faults))
        raise AudioError(f"no clip of {self.clips.name} can be read: {faults[0][1]}")

    def make(
        self, row: int, rng: np.random.Generator, faults: list[tuple[str, Fault]]
    ) -> tuple[Tensor, Tensor, int, float]:
        """Input, target, samples that are not padding, and SNR in dB."""
        plan = self.plan
        track: np.ndarray | None = None
        if plan.kind == "speech":
            dry, track = self._joined(row, rng, faults)
            clean, active, real = dry, track[self.ticks] > 0, plan.length
        else:
            dry, clean, begin, real = self._single(row, rng)
            active = np.zeros(plan.length, dtype=np.bool_)
            active[max(begin, 0) : begin + real] = True
        wave = self._in_room(dry, rng, faults)
        wave, snr = self._noisy(wave, active, rng, faults)
        wave, clean = limited(wave, clean)
        if plan.training and plan.gain is not None:
            factor = amplitude(float(rng.uniform(*plan.gain)))
            wave, clean = wave * factor, clean * factor
        return self._input(wave, rng), self._target(row, track, clean), real, snr

    def _input(self, wave: Floats, rng: np.random.Generator) -> Tensor:
        samples = as_tensor(wave)
        if self.frontend is None:
            return samples
        with torch.no_grad():
            features = self.frontend.bands(samples.unsqueeze(0))[0]
        return mask_features(features, self.plan.masks, rng) if self.plan.training and self.plan.masks else features

    def _target(self, row: int, track: np.ndarray | None, clean: Floats) -> Tensor:
        if track is not None:
            return torch.from_numpy(track)
        if self.plan.classes:
            return torch.tensor(self.plan.classes[self.clips.checked.rows[row].label or ""])
        return as_tensor(clean) if self.plan.kind == "clean" else torch.tensor(0)

    def _single(self, row: int, rng: np.random.Generator) -> tuple[Floats, Floats, int, int]:
        """One clip, cut or padded: samples, clean samples, where the clip begins, and how much of it there is."""
        length, total = self.plan.length, self.clips.samples(row)
        room = abs(total - length)
        offset = int(rng.integers(0, room + 1)) if self.plan.training or self.plan.kind == "clean" else room // 2
        start = offset if total > length else 0
        samples = self.clips.piece(row, start, length)
        put = 0 if total > length else min(offset, max(length - len(samples), 0))
        wave, begin, real = fit_length(samples, length, put, self.plan.pad)
        other = self.clips.checked.rows[row].clean
        if self.plan.kind != "clean" or other is None:
            return wave, wave, begin, real
        source = self.clips.checked.rows[row]
        target = read(
            type(source)(other, source.line, source.start, source.seconds), self.plan.rate, start / self.plan.rate
        )
        return (
            wave,
            fit_length(target[:length], length, min(put, max(length - len(target), 0)), self.plan.pad)[0],
            begin,
            real,
        )

    def _joined(self, row: int, rng: np.random.Generator, faults: list[tuple[str, Fault]]) -> tuple[Floats, np.ndarray]:
        """Clips one after the other with pauses, until the example is full: samples and speech track (0 or 1).

        Further clips are brought to the level of the first, give or take 3 dB: one ratio to the noise holds for all.
        """
        length, rate = self.plan.length, self.plan.rate
        wave, track = np.zeros(length, dtype=np.float32), np.zeros(self.track_length, dtype=np.float32)
        position, first, level = 0, True, 0.0
        while position < length:
            total = self.clips.samples(row)
            start = int(rng.integers(0, max(total - length, 0) + 1))
            gap = min(MEAN_GAP * rate, total)
            if first and total < length:
                position = int(rng.uniform(0, min(2 * gap, length - total)))
            try:
                samples = self.clips.piece(row, start, length - position)
            except AudioError as error:
                if first:
                    raise
                faults.append(self.clips.fault(row, error))
                break
            own = rms(samples)
            if first:
                level = own
            elif min(level, own) > FLOOR:
                samples = samples * np.float32(level / own * amplitude(float(rng.uniform(-3.0, 3.0))))
            wave[position : position + len(samples)] = samples
            self._mark(track, row, (position - start) / rate, (position + len(samples)) / rate)
            position += len(samples) + max(1, int(rng.exponential(gap)))
            row, first = int(rng.integers(len(self.clips))), False
        return wave, track

    def _mark(self, track: np.ndarray, row: int, begin: float, end: float) -> None:
        """Speech of a clip that begins at ``begin`` s of the example and was cut at ``end`` s."""
        for start, stop in self.clips.checked.rows[row].segments or ():
            last = min(begin + stop, end)
            track[max(0, round((begin + start) * TRACK_RATE)) : max(0, round(last * TRACK_RATE))] = 1.0

    def _in_room(self, wave: Floats, rng: np.random.Generator, faults: list[tuple[str, Fault]]) -> Floats:
        if self.rooms is None or not self.plan.training or rng.random() >= ROOM_ODDS:
            return wave
        response = self._other(self.rooms, rng, faults, self.plan.length)
        return wave if response is None else reverberate(wave, response)

    def _noisy(
        self, wave: Floats, active: np.ndarray, rng: np.random.Generator, faults: list[tuple[str, Fault]]
    ) -> tuple[Floats, float]:
        """The wave with noise, and their ratio in dB (NaN where there is no signal or no noise)."""
        noise = None if self.noise is None else self._other(self.noise, rng, faults)
        if noise is None:
            return wave, float("nan")
        snr = float(rng.uniform(*self.plan.snr))
        filling = fill_with(noise, self.plan.length, rng)
        if (
            rms(wave[active]) < FLOOR
        ):  # nothing to compare with: as loud as speech at −26 dB of full scale would have it
            silent = np.full_like(wave, amplitude(-26.0))
            return wave + mix(silent, filling, snr), float("nan")
        return wave + mix(wave, filling, snr, active), snr

    def _other(
        self, clips: Clips, rng: np.random.Generator, faults: list[tuple[str, Fault]], count: int | None = None
    ) -> Floats | None:
        """A random clip of another manifest, at most two examples long; None if none of ten can be read."""
        count = count or 2 * self.plan.length
        for _ in range(10):
            index = int(rng.integers(len(clips)))
            start = 0 if clips is self.rooms else int(rng.integers(0, max(clips.samples(index) - count, 0) + 1))
            try:
                return clips.piece(index, start, count)
            except AudioError as error:
                faults.append(clips.fault(index, error))
        return None


def collate(examples: Sequence[Example]) -> tuple[Batch, tuple[tuple[str, Fault], ...]]:
    """Examples as a batch, and all of their faults."""
    x, target, lengths, snr, rows = zip(*(example.values for example in examples), strict=True)
    ratios = torch.tensor(snr, dtype=torch.float32)
    batch = Batch(torch.stack(x), torch.stack(target), torch.tensor(lengths), ratios, torch.tensor(rows))
    return batch, tuple(fault for example in examples for fault in example.faults)
