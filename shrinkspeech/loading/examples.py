"""Example inputs: written as shapes, and how much audio they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.defaults import SAMPLE_RATE
from shrinkspeech.errors import InputError, LoadError
from shrinkspeech.graph.captured import Captured

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int32,
    "bool": torch.bool,
}

MIN_SAMPLES = 400
"""Inputs shorter than this (25 ms at 16 kHz) are taken for features, not for a waveform."""


def examples(shapes: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Faint noise (or zeros and ones) of the shapes given, always the same, each with its name, empty where it has none.

    Raises:
        LoadError: a shape cannot be read.
    """
    generator = torch.Generator().manual_seed(0)
    return [(parted(text)[0], _example(text, generator)) for text in shapes]


def parted(text: str) -> tuple[str, str]:
    """Name and shape of ``lengths=2:int64``; the name is empty where there is none."""
    name, _, shape = text.rpartition("=")
    return name.strip(), shape


def example_shape(text: str) -> tuple[tuple[int, ...], torch.dtype]:
    """Sizes and type of ``2x16000``, ``2:int64`` or ``lengths=2:int64``.

    Raises:
        LoadError: it is neither.
    """
    found = re.fullmatch(r"(\d+(?:x\d+)*)(?::(\w+))?", parted(text)[1].strip())
    dtype = DTYPES.get(found[2] or "float32") if found else None
    sizes = tuple(int(size) for size in found[1].split("x")) if found else ()
    if dtype is None or 0 in sizes:
        raise LoadError(
            f"cannot read --example {text}: write the sizes and perhaps a type, such as 2x16000 or 2:int64 "
            f"({', '.join(DTYPES)}), perhaps behind a name, such as lengths=2:int64"
        )
    return sizes, dtype


def _example(text: str, generator: torch.Generator) -> Tensor:
    sizes, dtype = example_shape(text)
    if dtype.is_floating_point:
        return 0.01 * torch.randn(sizes, generator=generator, dtype=dtype)
    return torch.randint(0, 2, sizes, generator=generator).to(dtype)


def shapes_text(inputs: Sequence[Any]) -> str:
    """``2x16000, 2``, as ``--example`` takes it."""
    return ", ".join("x".join(map(str, x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in inputs)


def seconds_of(captured: Captured, seconds: float | None = None, sample_rate: int = SAMPLE_RATE) -> float:
    """Audio that one item of the example batch holds, in s.

    Args:
        seconds: what the user says, which goes before everything.
        sample_rate: in Hz, for models whose first input is a waveform ``[B, samples]`` or ``[B, 1, samples]``.

    Raises:
        InputError: the first input is no waveform, or a number is not positive.
    """
    if sample_rate <= 0 or (seconds is not None and seconds <= 0):
        raise InputError("--seconds and --sample-rate must be above zero")
    if seconds is not None:
        return seconds
    samples = waveform(captured)
    if samples is None:
        raise InputError(
            f"the model's input ({shapes_text(captured.example_inputs)}) is no waveform: "
            "say with --seconds how much audio one item of the example holds"
        )
    return samples / sample_rate


def waveform(captured: Captured) -> int | None:
    """Samples of the first input where that is a waveform, ``[B, samples]`` or ``[B, 1, samples]``; else None."""
    first = captured.example_inputs[0] if captured.example_inputs else None
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    fits = first.dim() == 2 or (first.dim() == 3 and first.shape[1] == 1)
    return int(first.shape[-1]) if fits and first.shape[-1] >= MIN_SAMPLES else None
