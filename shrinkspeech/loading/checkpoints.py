"""The weights of a model in a training checkpoint: found by the model's own names and shapes, and told.

Trainers keep them at many places under many names: beside optimiser states, inside of other mappings, behind prefixes of
wrappers. A place fits if it has every tensor of the model behind one prefix and no other behind that prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.errors import LoadError

PLACES = ("", "state_dict", "model_state_dict", "model", "net", "generator")
PREFIXES = ("", "module.", "model.", "_orig_mod.", "net.")
"""Where weights are that training made, the likeliest first; what fits at other places is taken where nothing else does."""

DEEPEST = 4


@dataclass(frozen=True)
class Place:
    """Tensors of one mapping in a checkpoint, and the keys that lead there."""

    keys: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    def __str__(self) -> str:
        return "/".join(self.keys)


@dataclass(frozen=True)
class Fit:
    """A place and a prefix that give every tensor of a model."""

    place: Place
    prefix: str

    @property
    def weights(self) -> dict[str, Tensor]:
        """Tensors under the model's own names."""
        inside = {name: x for name, x in self.place.tensors.items() if name.startswith(self.prefix)}
        return {name.removeprefix(self.prefix): x for name, x in inside.items()}

    @property
    def others(self) -> list[str]:
        """Tensors beside the prefix."""
        return [name for name in self.place.tensors if not name.startswith(self.prefix)]

    @property
    def rank(self) -> tuple[int, int]:
        """How likely: known names before others, in their order."""
        return _position(PLACES, self.place.keys[-1] if self.place.keys else ""), _position(PREFIXES, self.prefix)

    def __str__(self) -> str:
        parts = [f"in '{self.place}'" if self.place.keys else "", f"behind '{self.prefix}'" if self.prefix else ""]
        return " ".join(filter(None, parts)) or "at the top"


def _position(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def places(content: Any, keys: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every mapping that holds tensors itself, the outermost first."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or len(keys) > DEEPEST:
        return
    tensors = {str(name): x for name, x in content.items() if isinstance(x, Tensor)}
    if tensors:
        yield Place(keys, tensors)
    for name, inner in content.items():
        yield from places(inner, (*keys, str(name)))


def fits(model: nn.Module, found: Sequence[Place]) -> list[Fit]:
    """Places and prefixes that have all of a model's tensors, the likeliest first; of equal values one alone.

    Raises:
        LoadError: two that are equally likely hold different values.
    """
    own = model.state_dict()
    every = [Fit(place, prefix) for place in found for prefix in _prefixes(own, place)]
    fitting = sorted((fit for fit in every if not problems(own, fit.weights)), key=lambda fit: fit.rank)
    kept = [fit for i, fit in enumerate(fitting) if not any(_equal(fit, other) for other in fitting[:i])]
    if len(kept) > 1 and kept[0].rank == kept[1].rank:
        raise LoadError(f"several sets of weights fit: {', '.join(map(str, kept[:4]))}: save the one to load alone")
    return kept


def _prefixes(own: Mapping[str, Tensor], place: Place) -> list[str]:
    """What stands in front of one of the model's names."""
    sample = max(own, key=len, default="")
    ends = [name.removesuffix(sample) for name in place.tensors if name.endswith(sample)]
    return [prefix for prefix in dict.fromkeys(ends) if prefix.endswith(".") or not prefix]


def _equal(a: Fit, b: Fit) -> bool:
    x, y = a.weights, b.weights
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def problems(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """What keeps weights from being a model's, in words; a tensor that is tied to another may be missing."""
    tied = {own[name].data_ptr() for name in own if name in weights and own[name].numel()}
    missing = [
        name
        for name, tensor in own.items()
        if name not in weights and tensor.data_ptr() not in tied and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in weights if name not in own]
    misshapen = [
        f"{name} ({_size(weights[name])} for {_size(own[name])})"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    named = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    return [f"{title} {_first(names)}" for title, names in named if names]


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def fill(model: nn.Module, found: Sequence[Place], factory: str, source: str) -> tuple[str, ...]:
    """Put the weights of a checkpoint into a model; what was left out of the checkpoint, in sentences.

    Raises:
        LoadError: no place has all of the model's tensors, or two have.
    """
    try:
        fitting = fits(model, found)
    except LoadError as error:
        raise LoadError(f"in {source} {error}") from error
    if not fitting:
        nearest = min((Fit(place, _common(place)) for place in found), key=lambda fit: fit.rank)
        text = "; ".join(problems(model.state_dict(), nearest.weights))
        raise LoadError(f"the weights in {source} do not match the model of {factory}: {text}")
    best, *rest = fitting
    model.load_state_dict(best.weights, strict=False)
    return _notes(best, rest, source)


def _notes(best: Fit, rest: Sequence[Fit], source: str) -> tuple[str, ...]:
    if rest:
        others = ", ".join(map(str, rest))
        return (f"the weights are those {best}; those {others} would fit too: save them alone to load them",)
    notes = []
    if best.rank[0] == len(PLACES) or best.rank[1] == len(PREFIXES):
        notes.append(f"the weights are those {best}")
    if best.others:
        notes.append(f"{source} holds tensors that are not the model's: {_first(best.others)}")
    return tuple(notes)


def _common(place: Place) -> str:
    """A known prefix that all names have."""
    return next((p for p in PREFIXES if p and all(name.startswith(p) for name in place.tensors)), "")
