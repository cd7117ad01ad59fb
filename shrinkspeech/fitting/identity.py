"""What must be the same for a fit to go on from a checkpoint: model, data, recipe and options, by hash where they are large."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups

Identity = Mapping[str, Any]
"""Facts by name, as JSON has them: mappings, lists, numbers, strings."""

SHORT = 40
"""Values of more characters are not shown."""


def identity_of(captured: Captured, groups: Groups) -> dict[str, Any]:
    """What tells one model and its groups from another."""
    return {
        "weights of the model": weights_hash(captured),
        "graph of the model": hashlib.sha256(captured.graph_module.code.encode()).hexdigest(),
        "groups that may shrink": {group.name: group.min_width for group in groups.shrinkable},
    }


def weights_hash(captured: Captured) -> str:
    """SHA-256 of the names, types, shapes and values of all tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(captured.parameters().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu()
        values = values.to_dense() if values.layout is not torch.strided else values
        found.update(values.resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def source_hash(source: Any) -> str:
    """SHA-256 of a recipe: of its file, or of the code of its functions as far as Python finds it."""
    if isinstance(source, str | Path):
        return hashlib.sha256(Path(source).read_bytes()).hexdigest()
    names = ("train_batches", "loss", "inputs")
    functions = [source.get(name) if isinstance(source, Mapping) else getattr(source, name, None) for name in names]
    return hashlib.sha256("\n".join(map(_code, functions)).encode()).hexdigest()


def _code(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (TypeError, OSError):
        return str(getattr(function, "__qualname__", type(function).__qualname__))


def differences(now: Identity, then: Identity) -> list[str]:
    """What differs, in words: ``steps (30, it was 4)``, ``weights of the model``."""
    new, old = dict(_flat(_plain(now))), dict(_flat(_plain(then)))
    found = []
    for name in dict.fromkeys([*new, *old]):
        values = [json.dumps(side[name], ensure_ascii=False) if name in side else "not there" for side in (new, old)]
        if values[0] != values[1]:
            shown = max(map(len, values)) <= SHORT and not _is_hash(new.get(name))
            found.append(f"{name} ({values[0]}, it was {values[1]})" if shown else name)
    return found


def _plain(identity: Identity) -> Any:
    """As it comes back from JSON: tuples are lists, paths are strings."""
    return json.loads(json.dumps(identity, default=str))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64
