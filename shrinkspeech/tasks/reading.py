"""How an output becomes scores: which one, which dimension of it is time, which is classes, and what its values are.

Every output is ranked by what the task needs. Where two serve as well, the user has to say which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from shrinkspeech.data.items import TRACK_RATE
from shrinkspeech.errors import InputError
from shrinkspeech.tasks.outputs import Observed, Output

OUTPUTS_ARE = ("auto", "logit", "probability", "log-probability")
TINY = 1e-6
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""

Rank = int
"""How well an output serves a task; of two outputs the higher one is read."""


@dataclass(frozen=True)
class Way:
    """A way to read an output.

    Attributes:
        time, classes: dimensions of it; None where there is none.
        proved: ``time`` follows the length of the input, as was tried.
    """

    output: Output
    time: int | None = None
    classes: int | None = None
    proved: bool = False

    def text(self) -> str:
        """``26 frames that follow the length of the input``, ``2 values a clip``."""
        if self.time is not None and self.proved:
            return f"{self.output.shape[self.time]} frames that follow the length of the input"
        count = 1 if self.classes is None else self.output.shape[self.classes]
        return f"{count} value{'s' if count > 1 else ''} a {'clip' if self.time is None else 'frame'}"


@dataclass(frozen=True)
class Reading:
    """How outputs become scores.

    Attributes:
        index: which of all that the model returns.
        kind: ``logit``, ``probability`` or ``log-probability``.
        time, classes: dimensions of it; None where there is none.
        hop: s from one frame to the next.
        seconds: audio in an example.
        shape: on the batch that it was found on.
    """

    index: int
    kind: str
    time: int | None
    classes: int | None
    hop: float
    seconds: float
    shape: tuple[int, ...]

    def scores(self, outputs: Any) -> Tensor:
        """``[B, T, C]``: logits (log-probabilities for several classes); T and C are 1 where there is none."""
        x: Tensor = tree_leaves(outputs)[self.index]
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


# ---------------------------------------------------------------------------------------------- which output


@dataclass(frozen=True)
class Need:
    """What a task needs of an output.

    Attributes:
        task: its name, with what is known of its labels.
        shapes: that serve, in words.
        chosen: number or name of the output that the user has chosen.
    """

    task: str
    shapes: str
    chosen: str | None = None


def best_output(observed: Observed, ranks: Mapping[int, Rank], need: Need) -> Output:
    """The output that serves best, or the one that the user has chosen.

    Args:
        ranks: of the outputs that serve at all, by their number.

    Raises:
        InputError: none serves, the one chosen does not, or two serve as well.
    """
    given = observed.outputs if need.chosen is None else (observed.named(need.chosen),)
    serving = [output for output in given if output.number in ranks]
    if not serving:
        returned = observed.text() if need.chosen is None else str(given[0])
        verb = "the model returns" if need.chosen is None else "--model-output chooses"
        raise InputError(f"{verb} {returned}, where the task {need.task} needs {need.shapes}")
    highest = max(ranks[output.number] for output in serving)
    best = [output for output in serving if ranks[output.number] == highest]
    if len(best) > 1:
        raise InputError(
            f"the task {need.task} can be read from {' or from '.join(map(str, best))}: say which with --model-output"
        )
    return best[0]


def taken(observed: Observed, output: Output, why: str, chosen: str | None) -> tuple[str, ...]:
    """A note on which output was taken; nothing where there is one only."""
    if len(observed.outputs) == 1:
        return ()
    others = " and ".join(str(other) for other in observed.outputs if other is not output)
    reason = "as --model-output says" if chosen is not None else f"for it has {why}: --model-output chooses another"
    return (f"{output} is read and not {others}, {reason}",)


def find_reading(
    observed: Observed, rank: Callable[[Way], Rank | None], counts: Sequence[int], need: Need, outputs_are: str = "auto"
) -> tuple[Reading, tuple[str, ...]]:
    """How the output that serves best is read as scores, and notes on it.

    Args:
        rank: of a way to read an output; None if it does not serve.
        counts: numbers of values that serve, for a clip or a frame; 1 is one score for two classes.
        outputs_are: ``auto``, or what the values are.

    Raises:
        InputError: no output serves, two serve as well, or values are not what ``outputs_are`` says.
    """
    if outputs_are not in OUTPUTS_ARE:
        raise InputError(f"cannot read outputs as '{outputs_are}': --outputs-are is {', '.join(OUTPUTS_ARE)}")
    ways: dict[int, tuple[Rank, Way]] = {}
    for way in (way for output in observed.outputs for way in _ways(output, observed, counts)):
        ranked, number = rank(way), way.output.number
        if ranked is not None and (number not in ways or ranked > ways[number][0]):
            ways[number] = ranked, way
    output = best_output(observed, {number: ranked for number, (ranked, _) in ways.items()}, need)
    way = ways[output.number][1]
    kind = output.kind if outputs_are == "auto" else outputs_are
    _values_agree(output.values, kind)
    reading = Reading(output.number, kind, way.time, way.classes, _hop(observed, way), observed.seconds, output.shape)
    return reading, (*taken(observed, output, way.text(), need.chosen), *_unproved(way))


def _ways(output: Output, observed: Observed, counts: Sequence[int]) -> Iterator[Way]:
    """Every way to read an output as scores of one of some numbers of classes."""
    times, wide = output.times, output.wide
    if output.shape[:1] != (observed.size,) or len(wide) > 2 or len(times) > 1:
        return
    for count in counts:
        rest = [dim for dim in wide if dim not in times]
        classes = next((dim for dim in rest if output.shape[dim] == count), None) if count > 1 else None
        left = [dim for dim in rest if dim != classes]
        if (count > 1 and classes is None) or len(left) + len(times) > 1:
            continue
        if left and output.shorter is not None:  # neither classes nor time: it did not change with the length
            continue
        yield Way(output, next(iter((*times, *left)), None), classes, bool(times))


def _unproved(way: Way) -> tuple[str, ...]:
    if way.time is None or way.proved:
        return ()
    frames = way.output.shape[way.time]
    return (f"{way.output} is taken for {frames} frames, which cannot be tried: the model takes one length alone",)


# --------------------------------------------------------------------------------------------- time and values


def _hop(observed: Observed, way: Way) -> float:
    """s from one frame to the next."""
    if way.time is None:
        return observed.seconds
    frames = way.output.shape[way.time]
    if not way.proved or way.output.shorter is None or observed.fewer is None:
        return observed.seconds / frames
    return stride(observed.steps, frames, way.output.shorter[way.time], observed.fewer) * observed.intake.step


def stride(steps: int, frames: int, before: int, fewer: int | None = None) -> float:
    """Steps of the input for one frame of the output, from the frames of ``steps`` and of ``fewer`` (half as many).

    Frames are counted in whole ones, so the true stride lies in a range: of its whole numbers one that divides the input
    is likeliest (160 for 48000 samples), then the one that is nearest.
    """
    change, difference = steps - (steps // 2 if fewer is None else fewer), frames - before
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
