"""Proof of dynamic sizes: an axis may change if graph and model agree at two other sizes of it.

Sizes are tried a quarter and a half away from the example's, in steps that keep what the model may divide by. An axis at which
the model runs at no other size alone is tried together with others like it: the batch of all inputs, caches of one length,
samples and the frames made of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Axis, Captured
from shrinkspeech.graph.compare import is_sound, max_difference, seeded, tensors_of
from shrinkspeech.graph.sizes import axes_of, extent, resized, size_at

STEPS = (1, 2, 3, 4, 5, 8, 10, 160, 480)
"""Sizes that are tried differ from the example's by multiples of these: what frames, strides and hops divide by."""

PROOFS = 2
"""Other sizes at which graph and model must agree."""

TOLERANCE = 1e-4

NOWHERE = "the model runs at no other size tried"


def candidates(size: int, batch: bool) -> list[int]:
    """Other sizes of an axis, the likeliest first."""
    if batch:
        near = [size + 1, size + 2, size + 3, 2 * size, 3 * size]
    else:
        near = [size + sign * step * max(1, round(size / 4 / step)) for step in STEPS for sign in (-1, 1)]
        near = [*(other for other in near if other <= 2 * size), 2 * size, 3 * size]
    return [other for other in dict.fromkeys(near) if other >= 2]


@dataclass(frozen=True)
class Found:
    """What trying an axis showed: sizes at which graph and model agree, or why it is not dynamic."""

    axis: Axis
    problem: str = ""


def proved_dynamic(captured: Captured, reference: nn.Module) -> Captured:
    """Keep an axis dynamic only if graph and model agree at two other sizes of it; say why where it is not."""
    tried = [_tried(captured, reference, axis) for axis in axes_of(captured)]
    proved = [found.axis for found in tried if not found.problem]
    stuck = [found.axis for found in tried if found.problem == NOWHERE]
    tied = _together(captured, reference, stuck)
    known = {place for axis in tied for place in axis.places}
    notes = [
        f"input {index}: dimension {dim} stays {size_at(captured, (index, dim))}: {found.problem}"
        for found in tried
        for index, dim in found.axis.places[:1]
        if found.problem and (index, dim) not in known
    ]
    kept, more = _jointly(captured, reference, [*proved, *tied])
    places = {place for axis in kept for place in axis.places}
    dynamic = tuple(
        frozenset(dim for dim in dims if (index, dim) in places) for index, dims in enumerate(captured.dynamic)
    )
    notes += [*more, *_fixed_by_code(captured), *_at_one_item(captured, reference, kept), *_not_finite(captured)]
    return replace(captured, dynamic=dynamic, axes=tuple(kept), notes=(*captured.notes, *dict.fromkeys(notes)))


def _tried(captured: Captured, reference: nn.Module, axis: Axis) -> Found:
    """One axis at other sizes, all its places together, until two of them agree."""
    agreed: list[int] = []
    for size in candidates(extent(captured, axis), axis.is_batch):
        if any(size_at(captured, place) * size % extent(captured, axis) for place in axis.places):
            continue
        problem = compared(captured, reference, resized(captured, {axis: size}))
        if problem == NOWHERE:
            continue
        if problem:
            return Found(axis, f"{problem} ({size})")
        agreed.append(size)
        if len(agreed) == PROOFS:
            return Found(replace(axis, sizes=tuple(agreed)))
    return Found(axis, f"the model runs at one other size alone ({agreed[0]})" if agreed else NOWHERE)


def _together(captured: Captured, reference: nn.Module, stuck: Sequence[Axis]) -> list[Axis]:
    """Axes that may change with others: first those of one size, then those of one ratio."""
    proved: list[Axis] = []
    open_axes = list(stuck)
    for group in _groups(captured, stuck):
        members = [axis for axis in group if axis in open_axes]
        if len(members) < len(group):
            continue
        places = sorted(
            (place for axis in members for place in axis.places), key=lambda place: size_at(captured, place)
        )
        found = _tried(captured, reference, Axis(tuple(places)))
        if not found.problem:
            proved.append(found.axis)
            open_axes = [axis for axis in open_axes if axis not in members]
    return proved


def _groups(captured: Captured, axes: Sequence[Axis]) -> Iterator[list[Axis]]:
    """Sets of two axes and more that may be tied: first dimensions of one size, equal sizes, pairs, all that are no batch."""
    by_size: dict[tuple[bool, int], list[Axis]] = {}
    for axis in axes:
        by_size.setdefault((axis.is_batch, extent(captured, axis)), []).append(axis)
    equal: dict[int, list[Axis]] = {}
    for (_, size), members in by_size.items():
        equal.setdefault(size, []).extend(members)
    yield from (members for members in [*by_size.values(), *equal.values()] if len(members) > 1)
    lengths = [axis for axis in axes if not axis.is_batch]
    yield from ([a, b] for a, b in itertools.combinations(lengths, 2))
    if len(lengths) > 2:
        yield lengths


def _jointly(captured: Captured, reference: nn.Module, axes: list[Axis]) -> tuple[list[Axis], list[str]]:
    """All axes at another size at once: where the graph fails though the model runs, the batch alone is dynamic."""
    if len(axes) < 2:
        return axes, []
    problem = compared(captured, reference, resized(captured, {axis: axis.sizes[0] for axis in axes}))
    if problem in ("", NOWHERE):
        return axes, []
    return [axis for axis in axes if axis.is_batch], [
        f"lengths stay as in the example: with all sizes changed {problem}"
    ]


def _fixed_by_code(captured: Captured) -> list[str]:
    leaves = pytree.tree_leaves(captured.example_inputs)
    return [
        f"input {index}: dimension {dim} stays {x.shape[dim]}: the model's code fixes it"
        for index, (x, dynamic) in enumerate(zip(leaves, captured.dynamic, strict=True))
        if isinstance(x, Tensor) and x.dim() > 1
        for dim in (0, x.dim() - 1)
        if dim not in dynamic
    ]


def _at_one_item(captured: Captured, reference: nn.Module, axes: Sequence[Axis]) -> list[str]:
    """A batch of one is never traced: sizes of 1 stay 1. Said where it differs, as models do that squeeze."""
    batch = [axis for axis in axes if axis.is_batch]
    if not batch:
        return []
    problem = compared(captured, reference, resized(captured, dict.fromkeys(batch, 1)))
    return [f"with a batch of 1 {problem}"] if problem not in ("", NOWHERE) else []


def _not_finite(captured: Captured) -> list[str]:
    """Where no number comes out, agreement says little."""
    if is_sound(tensors_of(seeded(captured.graph_module, captured.example_inputs))):
        return []
    return ["outputs are not finite on the example: what they are at other sizes could not be compared"]


def compared(captured: Captured, reference: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Why other sizes are not possible; empty where graph and model agree (also where both draw the same noise)."""
    try:
        wanted = seeded(reference, inputs)
    except Exception:
        return NOWHERE
    try:
        worst = max_difference(seeded(captured.graph_module, inputs), wanted, nan_agrees=True)
    except Exception as error:
        return f"the captured graph fails at another ({type(error).__name__})"
    if worst <= TOLERANCE:
        return ""
    return (
        f"the captured graph differs at another (by {worst:.1e})"
        if math.isfinite(worst)
        else "the captured graph differs"
    )
