"""Time of ONNX models in onnxruntime on the CPU; models that are compared run in turns, so that a busy machine hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import OnnxFile, run

Inputs = Sequence[Any] | Mapping[str, np.ndarray[Any, Any]]
"""Inputs of one run: nested tensors in the order of the model's inputs, or arrays by name."""

WARM_UP = 2
"""Runs before the first that is timed."""


def feed_of(session: Any, inputs: Inputs) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs by name.

    Raises:
        InputError: there are not as many tensors as the model has inputs.
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    names = [value.name for value in session.get_inputs()]
    tensors = [x for x in pytree.tree_leaves(tuple(inputs)) if isinstance(x, Tensor)]
    if len(names) != len(tensors):
        raise InputError(f"the ONNX model has {len(names)} inputs ({', '.join(names)}), not {len(tensors)}")
    return {name: tensor.detach().cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}


def in_turns(sessions: Sequence[Any], inputs: Inputs, repeats: int) -> list[list[float]]:
    """Times in s of each session, which run in turns, after two runs each to warm up."""
    feeds = [feed_of(session, inputs) for session in sessions]
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(WARM_UP + repeats):
        for session, feed, measured in zip(sessions, feeds, times, strict=True):
            start = time.perf_counter()
            run(session, feed)
            if turn >= WARM_UP:
                measured.append(time.perf_counter() - start)
    return times


def timing(file: OnnxFile | str | Path | bytes, inputs: Inputs, threads: int = 1, repeats: int = 20) -> float:
    """Median time of one run, in s, after two runs to warm up."""
    return statistics.median(in_turns([OnnxFile.of(file).session(threads)], inputs, repeats)[0])


def compare_speed(
    a: OnnxFile | str | Path | bytes,
    b: OnnxFile | str | Path | bytes,
    inputs: Inputs,
    threads: int = 1,
    repeats: int = 20,
) -> float:
    """How many times faster ``b`` is than ``a``: the median of time(a) / time(b) over runs that take turns."""
    first, second = in_turns([OnnxFile.of(file).session(threads) for file in (a, b)], inputs, repeats)
    return statistics.median(x / y for x, y in zip(first, second, strict=True))
