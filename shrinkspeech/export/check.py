"""The limits that ``shrinkspeech check`` enforces on an ONNX file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from shrinkspeech.errors import ExportError, InputError
from shrinkspeech.export.assumed import decided
from shrinkspeech.export.chunks import chunk_difference
from shrinkspeech.export.feed import Feed, Values, example_feed, single
from shrinkspeech.export.file_cost import OnnxCost, cost_of, said_seconds
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.parameters import parameters
from shrinkspeech.export.parity import not_sound, parity, shapes_of, shapes_text, sized_as, sizes_to_try, tolerance_of
from shrinkspeech.export.shapes import Example
from shrinkspeech.export.streams import faults, said_streams
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
    """Whether the value can be relied on: a count that leaves operators out, or hangs on a guess, meets no limit."""

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
    tolerance: float | None = None,
    seconds: float | None = None,
    example: Example | None = None,
    values: Values | None = None,
    batch: int | None = None,
    threads: int = 1,
    repeats: int = 20,
) -> CheckReport:
    """Measure an ONNX file against limits.

    Args:
        max_flops: FLOP/s, as counted from the graph; counted anyway where it is known what a second of audio is.
        max_params: parameters, see ``export/parameters.py``.
        max_bytes: size of the file and of those beside it that hold its tensors.
        max_latency: time in s to process the example with a batch of one, on ``threads`` threads.
        reference: a model that the file must agree with, within ``tolerance`` (relative; by the type of its numbers where none
            is given), at several sizes.
        seconds: audio that one item of the example holds, in s; needed where the file's metadata does not say it.
        example: shapes of the inputs; needed where neither metadata nor graph say them.
        values: what some inputs hold, such as lengths; needed where the cost depends on them and the metadata has none.
        batch: items in the example, where the first dimension of the first input does not say it.

    Raises:
        InputError: the file is not a valid ONNX model, or sizes or seconds are needed and not known.
    """
    file = OnnxFile.read(path)
    counted = parameters(file)
    if max_flops is not None:
        said_seconds(file, seconds)
    feed = None
    try:
        feed = decided(file, example_feed(file, example, values, batch))
        rows = [_cost(cost_of(file, feed, seconds), max_flops)]
    except InputError as error:
        needed = (max_flops, seconds, values, batch, max_latency if feed is None else None)
        if any(option is not None for option in needed):
            raise
        rows = [CheckRow("FLOP/s", math.inf, note=f"not counted: {error}")]
    rows += [
        CheckRow("parameters", counted.count, max_params, counted.note),
        CheckRow("bytes", file.size, max_bytes),
    ]
    rows += _states(file)
    if feed is not None and max_latency is not None:
        rows.append(_latency(file, feed, max_latency, threads, repeats))
    if reference is not None:
        allowed = tolerance_of(reference) if tolerance is None else tolerance
        rows += _agreement(file, reference, allowed)
        rows += _chunks(file, reference, allowed, seconds)
    return CheckReport(str(path), tuple(rows))


def _cost(cost: OnnxCost, limit: float | None) -> CheckRow:
    open_points = [*(f"not counted: {count} × {name}" for name, count in cost.uncounted.items()), *cost.doubts]
    return CheckRow("FLOP/s", cost.flops, limit, "; ".join([*open_points, *cost.notes]), sound=not open_points)


def _latency(file: OnnxFile, feed: Feed, limit: float, threads: int, repeats: int) -> CheckRow:
    alone = single(file, feed)
    measured = timing(file, alone.arrays, threads, repeats)
    notes = [f"{shapes_text([array.shape for array in alone.arrays.values()])}, {threads} thread(s)", *alone.doubts]
    if alone.items > 1:
        notes.append(f"the file fixes a batch of {alone.items}")
    return CheckRow("latency (s)", measured, limit, "; ".join(notes), sound=not alone.doubts)


def _states(file: OnnxFile) -> list[CheckRow]:
    """Whether the states that the metadata names are there, in the shapes that it says."""
    streams = said_streams(file)
    if not streams:
        return []
    found = faults(file, streams)
    return [CheckRow("faults in states", len(found), 0, "; ".join(found or map(str, streams)))]


def _chunks(file: OnnxFile, reference: Captured, tolerance: float, seconds: float | None) -> list[CheckRow]:
    """A streaming model over many chunks, its states going round."""
    streams = said_streams(file)
    if not streams and not reference.states:
        return []
    try:
        found = chunk_difference(reference, file, streams, said_seconds(file, seconds))
    except (ExportError, InputError) as error:
        return [CheckRow("difference in chunks", math.inf, tolerance, str(error))]
    beside = "the whole" if found.whole else "torch in chunks"
    name = f"difference over {found.seconds:g} s in {found.chunks} chunks from {beside}"
    return [CheckRow(name, found.difference, tolerance, found.note and f"not compared with the whole: {found.note}")]


def _agreement(file: OnnxFile, reference: Captured, tolerance: float) -> list[CheckRow]:
    """One row for each size at which the file and the reference are compared; the first says what was left out."""
    compared, notes = sizes_to_try(sized_as(reference, file))
    if not compared:
        return [CheckRow("difference", math.inf, tolerance, "; ".join(notes))]
    rows = []
    for inputs in compared:
        name = f"difference at {shapes_text(shapes_of(inputs))}"
        try:
            [found] = parity(reference, file, [inputs])
            rows.append(CheckRow(name, found.difference, tolerance, "" if found.sound else not_sound(found.shapes)))
        except (ExportError, InputError) as error:
            rows.append(CheckRow(name, math.inf, tolerance, str(error)))
    return [replace(rows[0], note="; ".join(filter(None, [rows[0].note, *notes]))), *rows[1:]]
