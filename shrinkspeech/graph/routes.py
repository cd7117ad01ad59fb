"""Routes through ``torch.export``: what each makes dynamic, and what is said of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.export import Dim
from torch.utils import _pytree as pytree

ALL, ENDS, BATCH, NOTHING = "all", "ends", "batch", "nothing"
"""What a route makes dynamic: every dimension, the first and the last, those as large as the batch, or none."""

NOTES = {
    ENDS: "only batch and the last dimension were made dynamic",
    BATCH: "only the batch was made dynamic: the length stays as in the example",
    NOTHING: "no dimension could be made dynamic: batch and length stay as in the example",
}


def notes_of(strict: bool, every: str) -> tuple[str, ...]:
    """What is to be said of a route, in sentences."""
    return (*(["captured in strict mode"] if strict else []), *([NOTES[every]] if every in NOTES else []))


def spec_of(inputs: tuple[Any, ...], every: str) -> Any:
    """The dynamic dimensions of inputs, as ``torch.export`` takes them."""
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor) and x.dim()]
    batch = tensors[0].shape[0] if tensors else 0

    def dims(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return None
        chosen = {
            ALL: range(x.dim()),
            ENDS: {0, x.dim() - 1},
            BATCH: [dim for dim, size in enumerate(x.shape) if size == batch],
        }
        return {dim: Dim.AUTO for dim in chosen[every] if x.dim()}

    return None if every == NOTHING else pytree.tree_map(dims, inputs)
