"""What a model returns: it is run on one batch and on a shorter one, and every output is told by number, name and shape.

A dimension that changes with the length of the input is time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from shrinkspeech.data.items import Batch
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks.intake import Intake

SHARES = ((1, 2), (2, 3), (3, 5), (3, 4))
"""Shares of the length that are tried for the shorter batch: models may want one that divides evenly, or is not too short."""

FAILURES = (RuntimeError, ValueError, AssertionError, IndexError)

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
class Output:
    """One real-valued tensor that a model returns.

    Attributes:
        number: its place among all that the model returns, from 0.
        name: its key where the model returns a dictionary or a named tuple, else empty.
        values: on the batch.
        shorter: its shape on the shorter batch; None if the model takes one length alone.
        kind: ``logit``, ``probability`` or ``log-probability``.
    """

    number: int
    name: str
    values: Tensor
    shorter: tuple[int, ...] | None
    kind: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def times(self) -> list[int]:
        """Dimensions that change with the length of the input."""
        if self.shorter is None or len(self.shorter) != len(self.shape):
            return []
        return [dim for dim in range(1, len(self.shape)) if self.shape[dim] != self.shorter[dim]]

    @property
    def wide(self) -> list[int]:
        """Dimensions after the batch that hold more than one value or are time."""
        return [dim for dim in range(1, len(self.shape)) if self.shape[dim] > 1 or dim in self.times]

    def __str__(self) -> str:
        """``output 1 'logits' (4x2)``."""
        name = f" '{self.name}'" if self.name else ""
        return f"output {self.number}{name} ({sizes_text(self.shape)})"


@dataclass(frozen=True)
class Observed:
    """What a model returned on one batch.

    Attributes:
        returned: all of it, as the model returns it.
        outputs: the real-valued tensors in it that are no states.
        steps: samples or frames of an item of the batch.
        fewer: those of the shorter batch; None if the model takes one length alone.
        size: items in the batch.
    """

    returned: Any
    outputs: tuple[Output, ...]
    intake: Intake
    steps: int
    fewer: int | None
    size: int

    @property
    def seconds(self) -> float:
        """Audio in an item of the batch."""
        return self.intake.seconds

    def text(self) -> str:
        """``2x101, one value a frame``; several outputs with their numbers."""
        if len(self.outputs) != 1:
            return " and ".join(map(str, self.outputs)) or "no real-valued tensor"
        (only,) = self.outputs
        return sizes_text(only.shape) + (", one value a frame" if only.times and len(only.wide) < 2 else "")

    def named(self, text: str) -> Output:
        """The output of a number or name, as the user gives it.

        Raises:
            InputError: there is none.
        """
        for output in self.outputs:
            if text == output.name or text == str(output.number):
                return output
        raise InputError(f"there is no output {text} for --model-output: the model returns {self.text()}")


def sizes_text(shape: Sequence[int]) -> str:
    """``2x101``."""
    return "x".join(map(str, shape)) or "one number"


@torch.no_grad()
def observe(captured: Captured, intake: Intake, batch: Batch) -> Observed:
    """Run the model on a batch, and on the first part of it.

    Raises:
        InputError: it cannot run on the batch.
    """
    module = captured.copy()
    try:
        returned = module(*intake(batch))
    except FAILURES as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"the model does not run on a batch of {sizes_text(intake(batch)[0].shape)}: {said}"
        ) from error
    leaves, spec = pytree.tree_flatten(returned)
    steps = batch.x.shape[-1]
    fewer, shapes = None, [None] * len(leaves)
    for up, down in SHARES:
        count = steps * up // down
        try:
            short = module(*intake.arguments(batch.x[..., :count], batch.lengths * up // down))
        except FAILURES:
            continue
        if pytree.tree_structure(short) == spec:
            fewer, shapes = count, [getattr(x, "shape", None) for x in pytree.tree_leaves(short)]
            break
    kinds, names = _kinds(captured, len(leaves)), _names(returned)
    given_back = {state.output for state in captured.states}
    outputs = tuple(
        Output(number, names[number], leaf, shape and tuple(shape), kinds[number])
        for number, (leaf, shape) in enumerate(zip(leaves, shapes, strict=True))
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and number not in given_back
    )
    return Observed(returned, outputs, intake, steps, fewer, len(batch.x))


def _names(returned: Any) -> list[str]:
    """The innermost key of each output, empty for places in a tuple or a list."""
    paths = [path for path, _ in pytree.tree_flatten_with_path(returned)[0]]
    keys = [[str(part.key) if hasattr(part, "key") else getattr(part, "name", "") for part in path] for path in paths]
    return [next((key for key in reversed(parts) if key), "") for parts in keys]


def _kinds(captured: Captured, count: int) -> list[str]:
    """Whether each output is a logit or a probability: what the last operator says that is more than a new shape."""
    output = next(node for node in captured.graph_module.graph.nodes if node.op == "output")
    nodes = pytree.tree_leaves(output.args)
    return [_kind(node) for node in nodes] if len(nodes) == count else ["logit"] * count


def _kind(node: Any) -> str:
    while isinstance(node, fx.Node) and node.op == "call_function":
        name = str(getattr(node.target, "__name__", node.target)).split(".")[0].rstrip("_")
        if name in ENDS:
            return ENDS[name]
        if name not in SHAPES:
            break
        node = node.args[0]
    return "logit"
