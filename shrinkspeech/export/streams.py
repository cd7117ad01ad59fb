"""What a file says of its states: which output goes back into which input with the next chunk, and their shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch.utils import _pytree as pytree

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import OnnxFile, Shape, dims_of
from shrinkspeech.graph.captured import Captured

STATES = "states"
"""The entry of the metadata."""


@dataclass(frozen=True)
class Stream:
    """One state of a file.

    Attributes:
        input, output: names; the output of one chunk is the input of the next.
        shape: in the example's batch. The state starts from zeros.
        original: its shape before the model was shrunk, where that is known.
        grows: the dimension in which it comes back longer; None where it keeps its size.
    """

    input: str
    output: str
    shape: Shape
    original: Shape | None = None
    grows: int | None = None

    def __str__(self) -> str:
        """``h 1×2×48 (was 1×2×96), which comes back as h_out``."""
        was = f" (was {_text(self.original)})" if self.original not in (None, self.shape) else ""
        return f"{self.input} {_text(self.shape)}{was}, which comes back as {self.output}"


def streams_of(captured: Captured, original: Mapping[str, Sequence[int]] | None = None) -> tuple[Stream, ...]:
    """The states of a captured model.

    Args:
        original: shapes before the model was shrunk, by the name of the input.
    """
    leaves, before = pytree.tree_leaves(captured.example_inputs), original or {}
    found = (
        Stream(state.source, state.result, tuple(leaves[state.input].shape), grows=state.grows)
        for state in (() if captured.started else captured.states)
    )
    return tuple(replace(x, original=tuple(before[x.input])) if x.input in before else x for x in found)


def streams_entry(streams: Sequence[Stream]) -> dict[str, str]:
    """The entry for the metadata; none for a model without states."""
    return {STATES: json.dumps([asdict(stream) for stream in streams])} if streams else {}


def said_streams(file: OnnxFile) -> tuple[Stream, ...]:
    """The states that a file says it has.

    Raises:
        InputError: the entry cannot be read.
    """
    if STATES not in file.metadata:
        return ()
    try:
        return tuple(_read(item) for item in json.loads(file.metadata[STATES]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"the entry '{STATES}' of {file} is no list of states: write the file again with 'shrinkspeech export'"
        ) from error


def _read(item: Mapping[str, Any]) -> Stream:
    def shape(value: Any) -> Shape:
        return tuple(int(size) for size in value)

    original, grows = item.get("original"), item.get("grows")
    return Stream(
        str(item["input"]),
        str(item["output"]),
        shape(item["shape"]),
        None if original is None else shape(original),
        None if grows is None else int(grows),
    )


def faults(file: OnnxFile, streams: Sequence[Stream]) -> list[str]:
    """What of the states does not fit the graph, in sentences: names, and sizes that it fixes."""
    inputs = {value.name: value for value in file.inputs}
    outputs = {value.name: value for value in file.proto.graph.output}
    found = []
    for stream in streams:
        if stream.input not in inputs or stream.output not in outputs:
            missing = f"input '{stream.input}'" if stream.input not in inputs else f"output '{stream.output}'"
            found.append(f"there is no {missing}")
            continue
        for value, growing in ((inputs[stream.input], None), (outputs[stream.output], stream.grows)):
            sizes = [int(dim.dim_value) if dim.HasField("dim_value") else None for dim in dims_of(value)]
            wrong = len(sizes) != len(stream.shape) or any(
                size not in (None, said)
                for dim, (size, said) in enumerate(zip(sizes, stream.shape, strict=True))
                if dim != growing
            )
            if wrong:
                text = "×".join("?" if size is None else str(size) for size in sizes)
                found.append(f"'{value.name}' is {text} in the graph, and {_text(stream.shape)} in the metadata")
    for names in ([stream.input for stream in streams], [stream.output for stream in streams]):
        found += [f"'{name}' is in two states" for name in dict.fromkeys(names) if names.count(name) > 1]
    return found


def _text(shape: Sequence[int] | None) -> str:
    return "×".join(map(str, shape or ())) or "a number"
