"""Proof of dynamic sizes: an axis may change if graph and model agree at two other sizes of it.

Sizes are tried a quarter and a half away from the example's, in steps that keep what the model may divide by; a batch is tried
with one item, which is cheap, and with one more. A batch and a length change together, so that two runs prove both; where those
do not agree, and among more axes, each is tried alone. An axis at which the model runs at no other size alone is tried together
with others like it: the batch of all inputs, caches of one length, samples and the frames made of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Axis, Captured
from shrinkspeech.graph.compare import is_sound, max_difference, seeded, tensors_of
from shrinkspeech.graph.sizes import axes_of, extent, resized, size_at
from shrinkspeech.graph.states import caches_as_one, is_input

STEPS = (1, 2, 3, 4, 5, 8, 10, 160, 480)
"""Sizes that are tried differ from the example's by multiples of these: what frames, strides and hops divide by."""

PROOFS = 2
"""Other sizes at which graph and model must agree."""

TOLERANCE = 1e-4

NOWHERE = "the model runs at no other size tried"

Sizes = frozenset[tuple[Axis, int]]
"""Axes that are changed, each with the size of its first place."""


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


class Trials:
    """Graph and model at other sizes; each set of sizes is run once.

    Attributes:
        outputs: of the graph for the example.
    """

    def __init__(self, captured: Captured, reference: nn.Module, outputs: Any) -> None:
        self.captured, self.reference, self.outputs = captured, reference, outputs
        self._problems: dict[Sizes, str] = {}
        self._agreed: dict[Sizes, Any] = {frozenset(): outputs}

    def problem(self, sizes: Mapping[Axis, int]) -> str:
        """Why these sizes are not possible; empty where graph and model agree (also where both draw the same noise)."""
        key = frozenset(sizes.items())
        if key not in self._problems:
            self._problems[key] = self._compared(key)
        return self._problems[key]

    def _compared(self, sizes: Sizes) -> str:
        inputs = resized(self.captured, dict(sizes))
        try:
            wanted = seeded(self.reference, inputs)
        except Exception:
            return NOWHERE
        try:
            worst = max_difference(seeded(self.captured.graph_module, inputs), wanted, nan_agrees=True)
        except Exception as error:
            return f"the captured graph fails at another ({type(error).__name__})"
        if worst <= TOLERANCE:
            self._agreed[sizes] = wanted
            return ""
        apart = f" at another (by {worst:.1e})" if math.isfinite(worst) else ""
        return f"the captured graph differs{apart}"

    def holds(self, other: Captured) -> bool:
        """Whether a graph that was made of the captured one gives what the model gave, at the least sizes that both have."""
        places = {place for axis in other.axes for place in axis.places}
        known = [sizes for sizes in self._agreed if {place for axis, _ in sizes for place in axis.places} <= places]
        inputs = {
            sizes: resized(self.captured, dict(sizes)) if sizes else self.captured.example_inputs for sizes in known
        }
        least = min(known, key=lambda sizes: sum(x.numel() for x in tensors_of(inputs[sizes])))
        found = seeded(other.graph_module, inputs[least])
        return max_difference(found, self._agreed[least], nan_agrees=True) <= TOLERANCE

    def sizes(self, axis: Axis) -> list[int]:
        """Other sizes of an axis at which all its places have whole ones."""
        first = extent(self.captured, axis)
        return [
            size
            for size in candidates(first, axis.is_batch)
            if not any(size_at(self.captured, place) * size % first for place in axis.places)
        ]


def proved_dynamic(trials: Trials) -> Captured:
    """Keep an axis dynamic only if graph and model agree at two other sizes of it; say why where it is not."""
    captured = trials.captured
    axes = caches_as_one(captured, axes_of(captured))
    at_once = _at_once(trials, axes)
    tried = at_once or _one_by_one(trials, axes)
    proved = [found.axis for found in tried if not found.problem and is_input(captured, found.axis)]
    stuck = [found.axis for found in tried if found.problem == NOWHERE]
    tied = [axis for axis in _together(trials, stuck) if is_input(captured, axis)]
    known = {place for axis in tied for place in axis.places}
    notes = [
        f"input {index}: dimension {dim} stays {size_at(captured, (index, dim))}: {found.problem}"
        for found in tried
        for index, dim in found.axis.places[:1]
        if found.problem and (index, dim) not in known and is_input(captured, found.axis)
    ]
    kept, more = (proved, []) if at_once else _jointly(trials, [*proved, *tied])
    places = {place for axis in kept for place in axis.places}
    dynamic = tuple(
        frozenset(dim for dim in dims if (index, dim) in places) for index, dims in enumerate(captured.dynamic)
    )
    notes += [*more, *_fixed_by_code(captured), *_at_one_item(trials, kept), *_not_finite(tensors_of(trials.outputs))]
    return replace(captured, dynamic=dynamic, axes=tuple(kept), notes=(*captured.notes, *dict.fromkeys(notes)))


def _at_once(trials: Trials, axes: Sequence[Axis]) -> list[Found]:
    """A batch and a length together at two sizes each; nothing where that proves nothing, or might hide that two are tied."""
    if [axis.is_batch for axis in axes] not in ([True, False], [False, True]):
        return []
    sizes = {axis: ([1] if axis.is_batch else []) + trials.sizes(axis) for axis in axes}
    if any(len(others) < PROOFS for others in sizes.values()):
        return []
    if any(trials.problem({axis: sizes[axis][i] for axis in axes}) for i in range(PROOFS)):
        return []
    return [Found(replace(axis, sizes=_ordered(axis, sizes[axis][:PROOFS]))) for axis in axes]


def _ordered(axis: Axis, agreed: Sequence[int]) -> tuple[int, ...]:
    """A batch of one comes last: it tells least of what is fixed."""
    return tuple(sorted(agreed, reverse=True) if axis.is_batch else agreed)


def _one_by_one(trials: Trials, axes: Sequence[Axis]) -> list[Found]:
    """Each axis alone; lengths with one item in the batch, where graph and model agree on that."""
    found = {axis: _tried(trials, axis) for axis in axes if axis.is_batch}
    single = [axis for axis, each in found.items() if 1 in each.axis.sizes]
    one = {axis: 1 for axis in single} if len(single) == len(found) == 1 else {}
    return [found[axis] if axis in found else _tried(trials, axis, one) for axis in axes]


def _tried(trials: Trials, axis: Axis, others: Mapping[Axis, int] = MappingProxyType({})) -> Found:
    """One axis at other sizes, all its places together, until two of them agree; ``others`` have a size that agrees."""
    agreed: list[int] = []
    if axis.is_batch and extent(trials.captured, axis) > 1 and not trials.problem({axis: 1}):
        agreed.append(1)
    for size in trials.sizes(axis):
        problem = trials.problem({**others, axis: size})
        if problem == NOWHERE:
            continue
        if problem:
            return Found(axis, f"{problem} ({size})")
        agreed.append(size)
        if len(agreed) == PROOFS:
            return Found(replace(axis, sizes=_ordered(axis, agreed)))
    return Found(axis, f"the model runs at one other size alone ({agreed[0]})" if agreed else NOWHERE)


def _together(trials: Trials, stuck: Sequence[Axis]) -> list[Axis]:
    """Axes that may change with others: first those of one size, then those of one ratio."""
    captured = trials.captured
    proved: list[Axis] = []
    open_axes = list(stuck)
    for group in _groups(captured, stuck):
        members = [axis for axis in group if axis in open_axes]
        if len(members) < len(group):
            continue
        places = sorted(
            (place for axis in members for place in axis.places), key=lambda place: size_at(captured, place)
        )
        found = _tried(trials, Axis(tuple(places)))
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


def _jointly(trials: Trials, axes: list[Axis]) -> tuple[list[Axis], list[str]]:
    """All axes at another size at once: where the graph fails though the model runs, the batch alone is dynamic."""
    if len(axes) < 2:
        return axes, []
    problem = trials.problem({axis.unproved: axis.sizes[0] for axis in axes})
    if problem in ("", NOWHERE):
        return axes, []
    return [axis for axis in axes if axis.is_batch], [
        f"lengths stay as in the example: with all sizes changed {problem}"
    ]


def _fixed_by_code(captured: Captured) -> list[str]:
    leaves, states = pytree.tree_leaves(captured.example_inputs), {state.input for state in captured.states}
    return [
        f"input {index}: dimension {dim} stays {x.shape[dim]}: the model's code fixes it"
        for index, (x, dynamic) in enumerate(zip(leaves, captured.dynamic, strict=True))
        if isinstance(x, Tensor) and x.dim() > 1 and index not in states
        for dim in (0, x.dim() - 1)
        if dim not in dynamic
    ]


def _at_one_item(trials: Trials, axes: Sequence[Axis]) -> list[str]:
    """A batch of one is never traced: sizes of 1 stay 1. Said where it differs, as models do that squeeze."""
    batch = [axis for axis in axes if axis.is_batch]
    if not batch:
        return []
    if all(1 in axis.sizes for axis in batch) and len(batch) == 1:
        return []
    problem = trials.problem({axis.unproved: 1 for axis in batch})
    return [f"with a batch of 1 {problem}"] if problem not in ("", NOWHERE) else []


def _not_finite(outputs: Sequence[Tensor]) -> list[str]:
    """Where no number comes out, agreement says little."""
    if is_sound(outputs):
        return []
    return ["outputs are not finite on the example: what they are at other sizes could not be compared"]
