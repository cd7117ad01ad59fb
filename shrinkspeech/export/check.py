"""The limits that ``shrinkspeech check`` enforces on an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shrinkspeech.defaults import TOLERANCE
from shrinkspeech.errors import ExportError, InputError
from shrinkspeech.export.constants import parameters
from shrinkspeech.export.feed import Example, example_shapes, one_item, random_feed
from shrinkspeech.export.file_cost import OnnxCost, onnx_flops
from shrinkspeech.export.onnx_file import OnnxFile, Shape
from shrinkspeech.export.parity import parity, shapes_of, shapes_text, sized_as, sizes_to_try
from shrinkspeech.export.timing import timing
from shrinkspeech.graph.captured import Captured


@dataclass(frozen=True)
class CheckRow:
    """One thing that was checked.

    Attributes:
        name: what was measured, with its unit.
        measured: the value; infinite where it could not be had.
        limit: the largest value allowed, or None if nothing was asked for.
        note: what to know about the value, or empty.
    """

    name: str
    measured: float
    limit: float | None = None
    note: str = ""
    sound: bool = True
    """Whether the value is whole: a count that leaves operators out meets no limit."""

    @property
    def met(self) -> bool:
        return self.limit is None or (self.sound and self.measured <= self.limit)


@dataclass(frozen=True)
class CheckReport:
    """What ``check`` found, row by row."""

    path: str
    rows: tuple[CheckRow, ...]

    @property
    def met(self) -> bool:
        """Whether every limit is kept."""
        return all(row.met for row in self.rows)


def check(
    path: str | Path,
    *,
    max_flops: float | None = None,
    max_params: float | None = None,
    max_bytes: float | None = None,
    max_latency: float | None = None,
    reference: Captured | None = None,
    tolerance: float = TOLERANCE,
    seconds: float | None = None,
    example: Example | None = None,
    threads: int = 1,
    repeats: int = 20,
) -> CheckReport:
    """Measure an ONNX file against limits.

    Args:
        max_flops: FLOP/s, as counted from the graph; counted anyway where it is known what a second of audio is.
        max_params: elements of its constants.
        max_bytes: size of the file.
        max_latency: time in s to process the example with a batch of one, on ``threads`` threads.
        reference: a model that the file must agree with, within ``tolerance`` (relative), at several sizes.
        seconds: audio that one item of the example holds, in s; needed where the file's metadata does not say it.
        example: shapes of the inputs; needed where neither metadata nor graph say them.

    Raises:
        InputError: the file is not a valid ONNX model, or sizes or seconds are needed and not known.
    """
    file = OnnxFile.read(path)
    rows = [
        CheckRow("parameters", parameters(file.proto), max_params),
        CheckRow("bytes", file.size, max_bytes),
    ]
    if max_flops is not None or seconds is not None or "seconds" in file.metadata:
        rows.insert(0, _cost(onnx_flops(file, seconds, example), max_flops))
    if max_latency is not None:
        rows.append(_latency(file, example_shapes(file, example), max_latency, threads, repeats))
    if reference is not None:
        rows += _agreement(file, reference, tolerance)
    return CheckReport(str(path), tuple(rows))


def _cost(cost: OnnxCost, limit: float | None) -> CheckRow:
    missing = ", ".join(f"{count} × {name}" for name, count in cost.uncounted.items())
    return CheckRow("FLOP/s", cost.flops, limit, f"not counted: {missing}" if missing else "", sound=not missing)


def _latency(file: OnnxFile, shapes: Mapping[str, Shape], limit: float, threads: int, repeats: int) -> CheckRow:
    single = one_item(file, shapes)
    measured = timing(file, random_feed(file, single), threads, repeats)
    return CheckRow("latency (s)", measured, limit, f"{shapes_text(list(single.values()))}, {threads} thread(s)")


def _agreement(file: OnnxFile, reference: Captured, tolerance: float) -> list[CheckRow]:
    """One row for each size at which the file and the reference are compared."""
    rows = []
    for inputs in sizes_to_try(sized_as(reference, file))[0]:
        name = f"difference at {shapes_text(shapes_of(inputs))}"
        try:
            [found] = parity(reference, file, [inputs])
            rows.append(CheckRow(name, found.difference, tolerance))
        except (ExportError, InputError) as error:
            rows.append(CheckRow(name, math.inf, tolerance, str(error)))
    return rows
