"""Streaming models over many chunks: each gives its states to the next, in onnxruntime and in torch.

Where the original makes the same of the whole at once as of chunks, the file is compared with the whole; else with torch in the
same chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import OnnxFile, run
from shrinkspeech.export.streams import Stream
from shrinkspeech.graph.captured import Axis, Captured
from shrinkspeech.graph.compare import distance, seeded
from shrinkspeech.graph.names import input_names
from shrinkspeech.graph.sizes import axes_of

SECONDS = 10.0
"""Audio over which chunks are compared."""

CAUSAL = 1e-4
"""A model whose chunks differ by less from the whole makes the same of both."""


@dataclass(frozen=True)
class ChunkDifference:
    """How far a file is from torch over several chunks.

    Attributes:
        chunks: how many there were.
        seconds: audio in all of them.
        difference: the largest over all outputs that are no states (over the states, if there are no others), relative to the
            largest value.
        whole: whether torch was given the whole at once.
        note: why it was not, in a sentence, or empty.
    """

    chunks: int
    seconds: float
    difference: float
    whole: bool
    note: str = ""


def chunk_difference(reference: Captured, file: OnnxFile, streams: Sequence[Stream], seconds: float) -> ChunkDifference:
    """Compare a file with torch over ``SECONDS`` of audio in chunks of the example's length.

    Args:
        seconds: audio in one item of the example.

    Raises:
        InputError: the states of the file are not those of the reference, or onnxruntime cannot run it.
    """
    if {(stream.input, stream.output) for stream in streams} != {(s.source, s.result) for s in reference.states}:
        raise InputError(
            "the states in the file's metadata are not those of the reference: export it again, or give --state"
        )
    count = max(2, math.ceil(SECONDS / seconds))
    chunks = [_noise(reference, number) for number in range(count)]
    wanted = in_torch(reference, chunks)
    found = in_onnxruntime(reference, file, streams, chunks)
    whole, note = _whole(reference, chunks, wanted)
    compared = wanted if whole is None else [whole]
    pairs = _joined(found, compared)
    worst = max((distance(a, b) for a, b in pairs), default=math.inf)
    return ChunkDifference(count, count * seconds, worst, whole is not None, note)


def _noise(captured: Captured, seed: int) -> list[Any]:
    """The leaves of the example with another signal of its kind, and states of zeros."""
    leaves = pytree.tree_leaves(captured.example_inputs)
    inner, generator = {state.input for state in captured.states}, torch.Generator().manual_seed(seed)

    def other(index: int, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if index in inner:
            return torch.zeros_like(x)
        return 0.1 * torch.randn(x.shape, generator=generator).to(x.dtype) if x.is_floating_point() else x

    return [other(index, x) for index, x in enumerate(leaves)]


def in_torch(captured: Captured, chunks: Sequence[Sequence[Any]]) -> list[list[Tensor]]:
    """Outputs that are no states, of each chunk, or the states where there is nothing else; the states go round."""
    spec = pytree.tree_structure(captured.example_inputs)
    given_back = {state.output for state in captured.states}
    states: dict[int, Tensor] = {}
    results = []
    for chunk in chunks:
        leaves = [states.get(index, x) for index, x in enumerate(chunk)]
        returned = pytree.tree_leaves(seeded(captured.graph_module, tuple(pytree.tree_unflatten(leaves, spec))))
        states = {state.input: returned[state.output] for state in captured.states}
        told = [x for i, x in enumerate(returned) if i not in given_back and isinstance(x, Tensor)]
        results.append(told or [*states.values()])
    return results


def in_onnxruntime(
    captured: Captured, file: OnnxFile, streams: Sequence[Stream], chunks: Sequence[Sequence[Any]]
) -> list[list[Tensor]]:
    """The same by an ONNX file, as whoever runs it would: by the names in its metadata."""
    session, given_back = file.session(), {stream.output for stream in streams}
    outputs = [value.name for value in session.get_outputs()]
    states: dict[str, Any] = {}
    results = []
    for chunk in chunks:
        tensors = [x for x in chunk if isinstance(x, Tensor)]
        feed = {name: x.numpy() for name, x in zip(input_names(captured), tensors, strict=True)}
        returned = dict(zip(outputs, run(session, {**feed, **states}), strict=True))
        states = {stream.input: returned[stream.output] for stream in streams}
        told = [x for name, x in returned.items() if name not in given_back]
        results.append([torch.as_tensor(np.asarray(x)) for x in told or (states[s.source] for s in captured.states)])
    return results


def _whole(
    captured: Captured, chunks: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Tensor]]
) -> tuple[list[Tensor] | None, str]:
    """What torch makes of all chunks at once, or why it cannot be compared with."""
    times = [axis for axis in axes_of(captured) if not axis.is_batch and _of_signal(captured, axis)]
    if len(times) != 1:
        return (
            None,
            "the model takes chunks of one length alone" if not times else "several lengths may change on their own",
        )
    [time] = times
    places = dict(place for place in time.places if place[0] not in {state.input for state in captured.states})
    leaves = list(chunks[0])
    for index, dim in places.items():
        leaves[index] = torch.cat([chunk[index] for chunk in chunks], dim)
    try:
        [whole] = in_torch(captured, [leaves])
    except Exception as error:  # the user's model may refuse a length for its own reasons
        return None, f"the model does not take the whole ({str(error).strip().partition(chr(10))[0][:120]})"
    apart = max((distance(a, b) for a, b in _joined(wanted, [whole])), default=math.inf)
    if apart <= CAUSAL:
        return whole, ""
    return None, f"the original itself makes something else of the whole than of chunks (by {apart:.1e})"


def _of_signal(captured: Captured, axis: Axis) -> bool:
    """Whether the length is one of the signal, and not of a cache that grows."""
    return any(index not in {state.input for state in captured.states} for index, _ in axis.places)


def _joined(found: Sequence[Sequence[Tensor]], wanted: Sequence[Sequence[Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Outputs of chunks beside those of other chunks or of the whole, put together along the dimension that differs."""
    if len(found) == len(wanted):
        return [(a, b) for one, other in zip(found, wanted, strict=True) for a, b in zip(one, other, strict=True)]
    [whole] = wanted
    pairs = []
    for parts, target in zip(zip(*found, strict=True), whole, strict=True):
        apart = [dim for dim, (a, b) in enumerate(zip(parts[0].shape, target.shape, strict=False)) if a != b]
        pairs.append((torch.cat(parts, apart[0]) if apart else parts[-1], target))
    return pairs
