"""How a model takes a batch: samples or features, with a channel or without, with lengths or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.data.frontend import FrontEnd, layout_of, parse_features, time_of
from shrinkspeech.data.items import Batch
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.pretrained import front_end
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.loading.examples import shapes_text, waveform


@dataclass(frozen=True)
class Intake:
    """The model's side of a batch.

    Attributes:
        length: samples of an example.
        rate: in Hz.
        frontend: what makes features of samples; None for models that take samples.
        channel: samples go in as ``[B, 1, S]``.
        lengths: the model takes the length of each item as its second input.
        batch: the only batch size that the model takes; None for any.
    """

    length: int
    rate: int
    frontend: FrontEnd | None = None
    channel: bool = False
    lengths: bool = False
    batch: int | None = None

    @property
    def seconds(self) -> float:
        """Audio in an example."""
        return self.length / self.rate

    @property
    def steps(self) -> int:
        """Samples or frames of an item as the model takes it."""
        return self.length if self.frontend is None else self.frontend.frames(self.length)

    @property
    def step(self) -> float:
        """s from one sample or frame to the next."""
        return (1 if self.frontend is None else self.frontend.hop) / self.rate

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """The model's arguments."""
        return self.arguments(batch.x, batch.lengths)

    def arguments(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Samples ``[B, S]`` or features ``[B, F, T]`` in the model's layout, and lengths in samples or frames."""
        if self.frontend is None:
            first = x.unsqueeze(1) if self.channel else x
        else:
            first = self.frontend.arrange(x)
            lengths = self.frontend.lengths(lengths)
        return (first, lengths) if self.lengths else (first,)


def find_intake(captured: Captured, options: DataOptions) -> Intake:
    """How the captured model takes examples.

    Raises:
        InputError: its inputs are neither a waveform nor the features named, or it takes another length than ``--crop``.
    """
    inputs = captured.example_inputs
    first = inputs[0]
    lengths = len(inputs) == 2 and _is_lengths(inputs[1], first)
    if len(inputs) > 1 and not lengths:
        raise InputError(
            f"the model has {len(inputs)} inputs ({shapes_text(inputs)}), where a task gives audio and perhaps lengths: "
            "write a recipe and give it with --recipe"
        )
    dynamic = captured.dynamic[0]
    batch = None if 0 in dynamic else int(first.shape[0])
    rate = options.sample_rate
    if options.features is not None:
        features = parse_features(options.features)
        if options.masks and features.kind == "wave":
            raise InputError("--masks hides parts of features, and this model takes samples: leave it out")
        layout = layout_of(tuple(first.shape), features)
        frontend = front_end(features, rate, layout)
        time = time_of(tuple(first.shape), layout)
        usual = frontend.samples(int(first.shape[time]))
        length = _length(options, usual, time in dynamic, frontend)
        return Intake(length, rate, frontend, lengths=lengths, batch=batch)
    samples = waveform(captured)
    if samples is None:
        raise InputError(
            f"the model takes {shapes_text(inputs[:1])}, which is no waveform: name its features with "
            "--features logmel:80,25ms,10ms (or mfcc, lfcc), or write a recipe and give it with --recipe"
        )
    length = _length(options, samples, first.dim() - 1 in dynamic, None)
    return Intake(length, rate, None, first.dim() == 3, lengths, batch)


def _is_lengths(value: Any, first: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dtype in (torch.int64, torch.int32)
        and tuple(value.shape) == (first.shape[0],)
    )


def _length(options: DataOptions, usual: int, dynamic: bool, frontend: FrontEnd | None) -> int:
    """Samples of an example: what ``--crop`` says, or those of the model's own example."""
    rate = options.sample_rate
    length = usual if options.crop is None else max(1, round(options.crop * rate))
    same = length == usual if frontend is None else frontend.frames(length) == frontend.frames(usual)
    if not dynamic and not same:
        raise InputError(f"the model takes {usual / rate:g} s alone: give --crop {usual / rate:g}, or leave it out")
    shortest = 1 if frontend is None else frontend.shortest
    if length < shortest:
        raise InputError(
            f"examples of {length / rate:g} s are shorter than a window of the features: give a longer --crop"
        )
    return length


def lendable(options: DataOptions) -> list[tuple[Tensor, ...]]:
    """Faint noise as long as ``--crop``, for models that come without an example; nothing where no ``--crop`` is given.

    Samples ``[2, S]``, or features in every layout: ``[2, F, T]``, ``[2, T, F]``, ``[2, 1, F, T]``, ``[2, 1, T, F]``.
    """
    if options.crop is None:
        return []
    generator = torch.Generator().manual_seed(0)
    wave = 0.01 * torch.randn(2, max(1, round(options.crop * options.sample_rate)), generator=generator)
    if options.features is None:
        return [(wave,)]
    frontend = front_end(parse_features(options.features), options.sample_rate)
    bands = frontend(wave)
    if bands.dim() == 2:
        return [(bands,)]
    frames = bands.transpose(1, 2).contiguous()
    return [(bands,), (frames,), (bands.unsqueeze(1),), (frames.unsqueeze(1),)]


def audio_seconds(captured: Captured, features: str | None, rate: int) -> float | None:
    """Audio in one item of the example batch of a model that takes features, in s; None for other models.

    Args:
        features: as ``--features`` has them.
        rate: of the samples in Hz.
    """
    if features is None:
        return None
    parsed = parse_features(features)
    shape = tuple(captured.example_inputs[0].shape)
    return front_end(parsed, rate).samples(shape[time_of(shape, layout_of(shape, parsed))]) / rate
