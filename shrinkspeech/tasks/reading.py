"""What a model's outputs mean: which tensor, which dimension is time, which is classes, logits or probabilities.

It is found out on one batch, and again on half of its length: the dimension that changes is time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from shrinkspeech.data.items import TRACK_RATE, Batch
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks.intake import Intake

KINDS = ("auto", "logit", "probability", "log-probability")
TINY = 1e-6
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""

SHAPES: tuple[str, ...] = (
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "permute",
    "transpose",
    "slice",
    "select",
    "clone",
    "contiguous",
)
SHAPES += ("flatten", "unflatten", "alias", "expand", "getitem", "mean", "clamp", "to", "_to_copy", "detach", "dropout")
ENDS = {"sigmoid": "probability", "softmax": "probability", "_softmax": "probability", "log_softmax": "log-probability"}
ENDS |= {"_log_softmax": "log-probability", "hardsigmoid": "probability"}


@dataclass(frozen=True)
class Observed:
    """A model's output tensors on one batch, and their shapes on a shorter one (None if it takes one length alone)."""

    outputs: tuple[Tensor, ...]
    shorter: tuple[tuple[int, ...], ...] | None
    kinds: tuple[str, ...]
    intake: Intake

    @property
    def seconds(self) -> float:
        """Audio in an item of the batch."""
        return self.intake.seconds

    def text(self) -> str:
        """``2x101, one value a frame``."""
        return " and ".join(self._one(i) for i in range(len(self.outputs)))

    def _one(self, i: int) -> str:
        shape = tuple(self.outputs[i].shape)
        times = self.times(i)
        return sizes_text(shape) + (", one value a frame" if times and len(_wide(shape, times)) < 2 else "")

    def times(self, i: int) -> list[int]:
        """Dimensions of output ``i`` that change with the length of the input."""
        if self.shorter is None:
            return []
        now, then = tuple(self.outputs[i].shape), self.shorter[i]
        return [dim for dim in range(1, len(now)) if len(now) == len(then) and now[dim] != then[dim]]


def sizes_text(shape: Sequence[int]) -> str:
    """``2x101``."""
    return "x".join(map(str, shape)) or "one number"


def _wide(shape: Sequence[int], times: Sequence[int] = ()) -> list[int]:
    """Dimensions after the batch that hold more than one value or are time."""
    return [dim for dim in range(1, len(shape)) if shape[dim] > 1 or dim in times]


@torch.no_grad()
def observe(captured: Captured, intake: Intake, batch: Batch) -> Observed:
    """Run the model on a batch, and on the first half of it.

    Raises:
        InputError: it cannot run on the batch.
    """
    module = captured.copy()
    try:
        outputs = _tensors(module(*intake(batch)))
    except (RuntimeError, ValueError, AssertionError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"the model does not run on a batch of {sizes_text(intake(batch)[0].shape)}: {said}"
        ) from error
    half = batch.x.shape[-1] // 2
    try:
        shorter = tuple(
            tuple(x.shape) for x in _tensors(module(*intake.arguments(batch.x[..., :half], batch.lengths // 2)))
        )
    except (RuntimeError, ValueError, AssertionError, IndexError):
        shorter = None
    if shorter is not None and len(shorter) != len(outputs):
        shorter = None
    return Observed(outputs, shorter, _kinds(captured, len(outputs)), intake)


def _tensors(outputs: Any) -> tuple[Tensor, ...]:
    return tuple(x for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point())


def _kinds(captured: Captured, count: int) -> tuple[str, ...]:
    """Whether each output is a logit or a probability: what the last operator says that is more than a new shape."""
    output = next(node for node in captured.graph_module.graph.nodes if node.op == "output")
    nodes = [node for node in tree_leaves(output.args) if isinstance(node, fx.Node)]
    return tuple(map(_kind, nodes)) if len(nodes) == count else ("logit",) * count


def _kind(node: fx.Node) -> str:
    while node.op == "call_function":
        name = str(getattr(node.target, "__name__", node.target)).split(".")[0].rstrip("_")
        if name in ENDS:
            return ENDS[name]
        if name not in SHAPES or not isinstance(node.args[0], fx.Node):
            break
        node = node.args[0]
    return "logit"


@dataclass(frozen=True)
class Reading:
    """How outputs become scores.

    Attributes:
        index: which of the output tensors.
        kind: ``logit``, ``probability`` or ``log-probability``.
        time, classes: dimensions of it; None where there is none.
        hop: s from one frame to the next.
        seconds: audio in an example.
    """

    index: int
    kind: str
    time: int | None
    classes: int | None
    hop: float
    seconds: float

    def scores(self, outputs: Any) -> Tensor:
        """``[B, T, C]``: logits (log-probabilities for several classes); T and C are 1 where there is none."""
        x = _tensors(outputs)[self.index]
        order = [dim for dim in (self.time, self.classes) if dim is not None]
        x = x.permute(0, *order, *(dim for dim in range(1, x.dim()) if dim not in order))
        x = x.reshape(x.shape[0], x.shape[1] if self.time is not None else 1, -1)
        if self.kind == "probability":
            p = x.clamp(TINY, 1 - TINY)
            return p.log() - (1 - p).log() if x.shape[-1] == 1 else p.log()
        return x

    def pooled(self, outputs: Any) -> Tensor:
        """``[B, C]``: scores, averaged over frames."""
        return self.scores(outputs).mean(1)

    def ticks(self, frames: int) -> Tensor:
        """Index into a speech track for each frame: the frames lie ``hop`` apart, as far from both ends: ``[frames]``."""
        times = self.seconds / 2 + (torch.arange(frames, dtype=torch.float64) - (frames - 1) / 2) * self.hop
        last = max(1, round(self.seconds * TRACK_RATE)) - 1
        return torch.floor(times * TRACK_RATE + 1e-6).long().clamp(0, last)


def find_reading(observed: Observed, wanted: Sequence[int], task: str, needs: str, output: str = "auto") -> Reading:
    """The first output that can be read as scores of one of the numbers of classes wanted.

    Args:
        wanted: numbers of classes that serve, the best first; 1 is one score for two classes.
        task: its name in quotes, for the message.
        needs: what it needs, for the message.
        output: ``auto``, or what the values are.

    Raises:
        InputError: no output fits, or its values are not what ``output`` says.
    """
    if output not in KINDS:
        raise InputError(f"cannot read outputs as '{output}': --outputs-are is {', '.join(KINDS)}")
    for index in range(len(observed.outputs)):
        reading = _fitting(observed, index, wanted)
        if reading is not None:
            kind = observed.kinds[index] if output == "auto" else output
            _values_agree(observed.outputs[index], kind)
            return Reading(index, kind, *reading, observed.seconds)
    raise InputError(f"the model returns {observed.text()}, where the task {task} needs {needs}")


def _fitting(observed: Observed, index: int, wanted: Sequence[int]) -> tuple[int | None, int | None, float] | None:
    """Dimension of time, dimension of classes and hop in s; None where the output does not fit."""
    shape, times = tuple(observed.outputs[index].shape), observed.times(index)
    wide = _wide(shape, times)
    if len(wide) > 2 or len(times) > 1 or shape[:1] != tuple(observed.outputs[0].shape[:1]):
        return None
    rest = [dim for dim in wide if dim not in times]
    for count in wanted:
        classes = next((dim for dim in rest if shape[dim] == count and count > 1), None)
        left = [dim for dim in rest if dim != classes]
        if (count > 1) != (classes is not None) or len(left) + len(times) > 1:
            continue
        if left and observed.shorter is not None:  # neither classes nor time: it did not change with the length
            continue
        time = next(iter((*times, *left)), None)
        return time, classes, _hop(observed, index, time)
    return None


def _hop(observed: Observed, index: int, time: int | None) -> float:
    """s from one frame to the next."""
    if time is None:
        return observed.seconds
    frames = int(observed.outputs[index].shape[time])
    before = observed.shorter[index][time] if observed.shorter is not None else frames
    if before == frames:
        return observed.seconds / frames
    return stride(observed.intake.steps, frames, before) * observed.intake.step


def stride(steps: int, frames: int, before: int) -> float:
    """Steps of the input for one frame of the output, from the frames of ``steps`` and of half as many.

    Frames are counted in whole ones, so the true stride lies in a range: of its whole numbers one that divides the input
    is likeliest (160 for 48000 samples), then the one that is nearest.
    """
    change, difference = steps - steps // 2, frames - before
    guess = change / difference
    if guess < 1 or difference < 2:
        return guess
    low, high = math.ceil(change / (difference + 1)), math.floor(change / (difference - 1))
    near = sorted(range(low, high + 1), key=lambda value: abs(value - guess))
    return next((value for value in near if steps % value == 0), near[0] if near and guess < 32 else guess)


def _values_agree(values: Tensor, kind: str) -> None:
    low, high = float(values.min()), float(values.max())
    fits = {"logit": True, "probability": low >= -1e-3 and high <= 1.001, "log-probability": high <= 1e-3}[kind]
    if not fits:
        raise InputError(
            f"the outputs are to be read as {kind}, but lie between {low:.3g} and {high:.3g}: give --outputs-are logit"
        )
