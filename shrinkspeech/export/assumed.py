"""Numbers that an input holds for each item and that nobody says: taken where they can be told, tried where they cannot.

A length decides how much of an utterance a model works on, a speaker's number does not. Which of both an input is shows in
the count: it is made with a one and with the full length.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from shrinkspeech.errors import InputError
from shrinkspeech.export.constants import bodies
from shrinkspeech.export.feed import Feed
from shrinkspeech.export.onnx_file import OnnxFile, dims_of
from shrinkspeech.export.operations import operations

CHOOSING = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators whose outputs are as long as their inputs' values say."""

LENGTH = re.compile(r"(len|lens|length|lengths)$")


def decided(file: OnnxFile, feed: Feed) -> Feed:
    """The feed with a value in each assumed input, and notes that say which; what remains open is a doubt.

    Raises:
        InputError: onnxruntime cannot run the model on it.
    """
    lengths = full_lengths(file, feed)
    told = [name for name in feed.assumed if is_length(name) and len(lengths) == 1]
    for name in told:
        feed = feed.with_value(name, lengths[0])
        feed = replace(feed, notes=(*feed.notes, f"'{name}' is fed {lengths[0]}, the full length"))
    for name in feed.assumed:
        if name not in told:
            feed = _tried(file, feed, name, lengths)
    return _at_any_level(file, replace(feed, assumed=()))


def _at_any_level(file: OnnxFile, feed: Feed) -> Feed:
    """The feed, and a doubt where operators choose by what the signal holds, so that a louder one makes another count."""
    if not any(node.op_type in CHOOSING for body in bodies(file.proto) for node in body.node):
        return feed
    signals = [name for name, x in feed.arrays.items() if np.issubdtype(x.dtype, np.floating) and x.size > feed.items]
    known = {}
    for kind, level in (("faint noise", 1.0), ("loud noise", 10.0), ("silence", 0.0)):
        scaled = {name: (feed.arrays[name] * level).astype(feed.arrays[name].dtype) for name in signals}
        count = _count(file, replace(feed, arrays={**feed.arrays, **scaled}))
        if count is not None:
            known[kind] = count
    if len(set(known.values())) < 2:
        return feed
    text = ", ".join(f"{count:,.0f} operations on {kind}" for kind, count in known.items())
    doubt = f"the cost depends on what the signal holds ({text}): count it on real inputs with 'shrinkspeech inspect'"
    return replace(feed, doubts=(*feed.doubts, doubt))


def _tried(file: OnnxFile, feed: Feed, name: str, lengths: list[int]) -> Feed:
    """The feed with the value of the largest count, and a doubt if another value makes another count."""
    counts = {value: _count(file, feed.with_value(name, value)) for value in (1, *lengths)}
    known = {value: count for value, count in counts.items() if count is not None}
    value = max(known, key=lambda value: known[value], default=1)
    feed = feed.with_value(name, value)
    if len(set(known.values())) > 1:
        text = ", ".join(f"{count:,.0f} operations with {value}" for value, count in known.items())
        doubt = f"the cost depends on '{name}' ({text}): give --feed {name}=N"
        return replace(feed, doubts=(*feed.doubts, doubt))
    return replace(feed, notes=(*feed.notes, f"'{name}' is fed {value}"))


def _count(file: OnnxFile, feed: Feed) -> float | None:
    try:
        return operations(file, feed.arrays).total
    except InputError:
        return None


def is_length(name: str) -> bool:
    """Whether an input is called a length: ``lengths``, ``x_len``, ``speech_lens``, ``seqlen``."""
    return any(LENGTH.search(word) for word in re.split(r"[^a-z]+", name.lower()))


def full_lengths(file: OnnxFile, feed: Feed) -> list[int]:
    """Sizes that a length may count: of dimensions behind the first, of any size if there are such, else of all."""
    free, every = set(), set()
    for value in file.inputs:
        array = feed.arrays[value.name]
        if np.issubdtype(array.dtype, np.floating) and value.name not in feed.assumed:
            for dim, size in list(zip(dims_of(value), array.shape, strict=True))[1 if array.ndim > 1 else 0 :]:
                every.add(size)
                if not dim.HasField("dim_value"):
                    free.add(size)
    return sorted(free or every)
