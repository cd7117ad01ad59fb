"""What an ONNX file costs, counted from its graph: whoever wrote it, and whatever its metadata says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shrinkspeech.errors import InputError
from shrinkspeech.export.assumed import decided
from shrinkspeech.export.feed import Feed, Values, example_feed
from shrinkspeech.export.onnx_file import OnnxFile, Shape
from shrinkspeech.export.operations import operations
from shrinkspeech.export.parameters import parameters
from shrinkspeech.export.shapes import Example


@dataclass(frozen=True)
class OnnxCost:
    """The cost of an ONNX graph.

    Attributes:
        flops: FLOP/s (2 × multiply-accumulates) of the contractions, for each second of one item's audio.
        nodes: the same for each node that was counted, by node name.
        transforms: FLOP/s of Fourier transforms (5/2 · n · log2 n a frame), which ``flops`` leaves out.
        parameters: trained elements where the export says how many, else elements of all constants.
        bytes: size of the file and of those beside it that hold its tensors.
        uncounted: operators that might cost something and are not counted, with how often each occurs.
        shapes: shapes of the inputs that this holds for, by name.
        seconds: audio of one item of them, in s.
        notes: what was taken because nobody says it, in sentences.
        doubts: what the cost depends on and nobody says, in sentences.
    """

    flops: float
    nodes: Mapping[str, float]
    transforms: float
    parameters: int
    bytes: int
    uncounted: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    seconds: float = 1.0
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def onnx_flops(
    file: OnnxFile | str | Path,
    seconds: float | None = None,
    example: Example | None = None,
    values: Values | None = None,
    batch: int | None = None,
) -> OnnxCost:
    """Count the operations, parameters and bytes of an ONNX file.

    Args:
        file: the file, or its path.
        seconds: audio that one item of the example batch holds, in s; from the file's metadata if not given.
        example: shapes of the inputs; from the file's metadata if not given, or as fixed in the graph.
        values: what some inputs hold (lengths, states, masks); from the file's metadata if not given.
        batch: items in the example; the first dimension of the first input that has several if not given.

    Raises:
        InputError: the file is not ONNX, or neither it nor the arguments say sizes and seconds.
    """
    file = OnnxFile.of(file)
    said_seconds(file, seconds)
    return cost_of(file, decided(file, example_feed(file, example, values, batch)), seconds)


def cost_of(file: OnnxFile, feed: Feed, seconds: float | None = None) -> OnnxCost:
    """The cost on a feed whose values are known.

    Raises:
        InputError: nobody says the seconds, or onnxruntime cannot run the model on the feed.
    """
    seconds = seconds_of(file, feed, seconds)
    counted = operations(file, feed.arrays)
    scale = 1.0 / (seconds * feed.items)
    return OnnxCost(
        flops=counted.total * scale,
        nodes={name: value * scale for name, value in counted.nodes.items()},
        transforms=counted.transforms * scale,
        parameters=parameters(file).count,
        bytes=file.size,
        uncounted=counted.uncounted,
        shapes={name: array.shape for name, array in feed.arrays.items()},
        seconds=seconds,
        notes=feed.notes,
        doubts=feed.doubts,
    )


def said_seconds(file: OnnxFile, given: float | None = None) -> float:
    """Audio in one item of the example, in s: as given, else as the file says.

    Raises:
        InputError: neither says it, or it is no positive number.
    """
    text = file.metadata.get("seconds") if given is None else str(given)
    if text is None:
        raise InputError(f"{file} does not say how many seconds of audio its example holds: give --seconds")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InputError(f"the seconds of audio in the example must be a number above 0, not '{text}' (--seconds)")
    return seconds


def seconds_of(file: OnnxFile, feed: Feed, given: float | None = None) -> float:
    """As ``said_seconds``, where that can be.

    Raises:
        InputError: nobody says it, it is no positive number, or the file says more seconds than an item holds numbers.
    """
    seconds = said_seconds(file, given)
    numbers = sum(array.size for array in feed.arrays.values()) // feed.items
    if given is None and seconds > numbers:
        raise InputError(
            f"{file} says that an item of its example holds {seconds:.3g} s of audio, in {numbers:,} numbers, "
            "which cannot be: give --seconds"
        )
    return seconds
