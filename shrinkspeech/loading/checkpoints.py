"""The weights of a model in a training checkpoint: found by the model's own names and shapes, and told.

Trainers keep them at many places under many names: beside optimiser states, inside of other mappings, behind prefixes of
wrappers. A place fits if one mapping of names (``mapping.py``) gives every tensor of the model and leaves none of its modules'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.mapping import Mapped, Target, is_extra, mappings

PLACES = ("", "state_dict", "model_state_dict", "model", "net", "generator")
PREFIXES = ("", "module.", "model.", "_orig_mod.", "net.")
"""Where weights are that training made, the likeliest first; what fits at other places is taken where nothing else does."""

DEEPEST = 4


@dataclass(frozen=True)
class Place:
    """Tensors of one mapping in a checkpoint, and the keys that lead there.

    Attributes:
        extras: what modules keep beside their tensors (``_extra_state``), by name.
    """

    keys: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "/".join(self.keys)


@dataclass(frozen=True)
class Fit:
    """A place and a mapping of its names."""

    place: Place
    mapped: Mapped

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Tensors under the model's own names."""
        return self.mapped.weights

    @property
    def rank(self) -> tuple[int, int]:
        """How likely: known names before others, in their order."""
        last = self.place.keys[-1] if self.place.keys else ""
        return _position(PLACES, last), _position(PREFIXES, self.mapped.prefix)

    def __str__(self) -> str:
        parts = [
            f"in '{self.place}'" if self.place.keys else "",
            f"behind '{self.mapped.prefix}'" if self.mapped.prefix else "",
        ]
        return " ".join(filter(None, parts)) or "at the top"


def _position(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def places(content: Any, keys: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every mapping that holds tensors itself, the outermost first."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or len(keys) > DEEPEST:
        return
    named = {str(name): x for name, x in content.items()}
    tensors = {name: x for name, x in named.items() if isinstance(x, Tensor) and not is_extra(name)}
    if tensors:
        yield Place(keys, tensors, {name: x for name, x in named.items() if is_extra(name) and x is not None})
    for name, inner in content.items():
        yield from places(inner, (*keys, str(name)))


def fits(model: nn.Module, found: Sequence[Place]) -> list[Fit]:
    """Places and mappings that have all of a model's tensors, the likeliest first; of equal values one alone.

    Raises:
        LoadError: two that are equally likely hold different values.
    """
    target = Target.of(model)
    every = [Fit(place, mapped) for place in found for mapped in mappings(target, place.tensors)]
    fitting = sorted((fit for fit in every if not problems(target.tensors, fit.mapped)), key=lambda fit: fit.rank)
    kept = [fit for i, fit in enumerate(fitting) if not any(_equal(fit, other) for other in fitting[:i])]
    if len(kept) > 1 and kept[0].rank == kept[1].rank:
        raise LoadError(f"several sets of weights fit: {', '.join(map(str, kept[:4]))}: save the one to load alone")
    return kept


def _equal(a: Fit, b: Fit) -> bool:
    x, y = a.weights, b.weights
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def problems(own: Mapping[str, Tensor], mapped: Mapped) -> list[str]:
    """What keeps weights from being a model's, in words; a tensor that is tied to another may be missing."""
    weights = mapped.weights
    tied = {own[name].data_ptr() for name in own if name in weights and own[name].numel()}
    missing = [
        name
        for name, tensor in own.items()
        if name not in weights and tensor.data_ptr() not in tied and not name.endswith("num_batches_tracked")
    ]
    misshapen = [
        f"{name} ({_size(weights[name])} for {_size(own[name])})"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    named = (("missing", missing), ("unexpected", list(mapped.unexpected)), ("misshapen", misshapen))
    return [f"{title} {_first(names)}" for title, names in named if names]


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def fill(model: nn.Module, found: Sequence[Place], factory: str, source: str) -> tuple[str, ...]:
    """Put the weights of a checkpoint into a model; what was left out of the checkpoint, in sentences.

    Raises:
        LoadError: no place has all of the model's tensors, or two have, or a module refuses its extra state.
    """
    try:
        fitting = fits(model, found)
    except LoadError as error:
        raise LoadError(f"in {source} {error}") from error
    if not fitting:
        text = "; ".join(_nearest(Target.of(model), found))
        raise LoadError(f"the weights in {source} do not match the model of {factory}: {text}")
    best, *rest = fitting
    wanted = {name for name in model.state_dict() if is_extra(name)}
    extras = {name: x for name in wanted for key, x in best.place.extras.items() if key == best.mapped.prefix + name}
    try:
        model.load_state_dict({**best.weights, **extras}, strict=False)
    except Exception as error:  # the model's own set_extra_state may raise what it likes
        raise LoadError(
            f"the model of {factory} refuses what {source} holds: {' '.join(str(error).split())}"
        ) from error
    return _notes(best, rest, source, sorted(wanted - extras.keys()))


def _nearest(target: Target, found: Sequence[Place]) -> list[str]:
    """What keeps the mapping that has most of the model's tensors from being whole."""
    every = [mapped for place in found for mapped in mappings(target, place.tensors)]
    best = max(every, key=lambda mapped: _alike(target, mapped), default=None)
    if best is not None and _alike(target, best):
        return problems(target.tensors, best)
    tensors = min(found, key=lambda place: _position(PLACES, place.keys[-1] if place.keys else "")).tensors
    prefix = next((p for p in PREFIXES if p and all(name.startswith(p) for name in tensors)), "")
    names = {name.removeprefix(prefix): x for name, x in tensors.items()}
    weights = {name: x for name, x in names.items() if name in target.tensors}
    return problems(
        target.tensors, Mapped(prefix, "", weights, tuple(name for name in names if name not in weights), ())
    )


def _alike(target: Target, mapped: Mapped) -> int:
    """How many tensors have the shape of the model's."""
    return sum(x.shape == target.tensors[name].shape for name, x in mapped.weights.items())


def _notes(best: Fit, rest: Sequence[Fit], source: str, lacking: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if rest:
        others = ", ".join(map(str, rest))
        notes.append(f"the weights are those {best}; those {others} would fit too: save them alone to load them")
    elif best.rank[0] == len(PLACES) or best.rank[1] == len(PREFIXES):
        notes.append(f"the weights are those {best}")
    if best.mapped.beside and not rest:
        notes.append(f"{source} holds tensors that are not the model's: {_first(best.mapped.beside)}")
    if lacking:
        notes.append(f"{source} holds no {_first(lacking)}: the model keeps its own")
    return tuple(notes)
