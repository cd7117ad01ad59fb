"""``python -m benchmarks.trained.measuring NAME FOLDER SECONDS``: the original and the small model in onnxruntime.

Prints one JSON object on the last line: the metric of both, and the time of both, in turns on one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.trained.models import Model
from benchmarks.trained.table import MODELS

REPEATS = 15

Run = Callable[[tuple[Tensor, ...]], list[np.ndarray]]


def seconds_of(model: Model) -> float:
    """Audio in one item of the example, in s."""
    return model.seconds or int(model.example[0].split("x")[-1]) / model.rate


def runner(path: Path) -> Run:
    """Outputs of an ONNX file for inputs in the order of the model's; in its own batch size where it takes no other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    first = session.get_inputs()[0].shape[0]

    def run(inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
        items = len(inputs[0])
        size = first if isinstance(first, int) else items
        parts = []
        for start in range(0, items, size):
            chosen = [min(start + i, items - 1) for i in range(size)]
            feed = {name: x[chosen].numpy() for name, x in zip(names, inputs, strict=False)}
            parts.append([out[: items - start] for out in session.run(None, feed)])
        return [np.concatenate(found) for found in zip(*parts, strict=True)]

    return run


def original(model: Model, path: Path, seconds: float) -> None:
    """Write the model as it came as ONNX, with the example that the small model has, unless that is there."""
    from shrinkspeech.export.exporter import export_onnx
    from shrinkspeech.loading.load import load

    if not path.is_file():
        weights = None if model.weights is None else os.path.abspath(model.weights)
        example = load(path.parent / "run" / "model.pt2").example_inputs
        captured = load(model.factory, weights=weights, example_inputs=example)
        export_onnx(captured, path, seconds=seconds)


def times(before: Path, after: Path) -> dict[str, float]:
    """Median time of one run of each, in ms, in turns, on one item as long as the example; on two where a batch is fixed."""
    from shrinkspeech.export.feed import example_feed, single
    from shrinkspeech.export.onnx_file import OnnxFile
    from shrinkspeech.export.timing import in_turns

    files = [OnnxFile.read(before), OnnxFile.read(after)]
    sessions = [file.session(1) for file in files]
    fixed = any(isinstance(session.get_inputs()[0].shape[0], int) for session in sessions)
    feed = example_feed(files[0])
    found = in_turns(sessions, (feed if fixed else single(files[0], feed)).arrays, REPEATS)
    return {name: round(1000 * statistics.median(x), 3) for name, x in zip(("ms", "small_ms"), found, strict=True)}


def measure(model: Model, folder: Path, seconds: float) -> dict[str, Any]:
    """Metric and time, before and after."""
    from benchmarks.trained.metrics import METRICS

    before, after = folder / "original.onnx", folder / "small.onnx"
    original(model, before, seconds)
    name, first, second = METRICS[model.metric](model, runner(before), runner(after))
    return {"metric": name, "before": first, "after": second, **times(before, after)}


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    torch.set_num_threads(1)
    chosen = next(model for model in MODELS if model.name == sys.argv[1])
    print(json.dumps(measure(chosen, Path(sys.argv[2]), float(sys.argv[3]))))
