"""Copies of a graph that somebody trains: the graph that they were made of is then out of date.

torch counts the changes of every tensor in place, so that a copy which an optimiser has moved can be told from one that was
only run.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn

from shrinkspeech.errors import InputError

Versions = Mapping[str, int]

_COPIES: WeakKeyDictionary[nn.Module, list[tuple[ref[nn.Module], Versions]]] = WeakKeyDictionary()


def watch(graph: nn.Module, copy: nn.Module) -> None:
    """Remember that ``copy`` was made of ``graph``, as long as both live."""
    alive = [(copied, versions) for copied, versions in _COPIES.get(graph, []) if copied() is not None]
    _COPIES[graph] = [*alive, (ref(copy), _versions(copy))]


def refuse_outdated(graph: nn.Module) -> None:
    """Refuse a graph of which a copy has been trained.

    Raises:
        InputError: a copy's parameters have changed since it was made.
    """
    for copied, versions in _COPIES.get(graph, []):
        copy = copied()
        if copy is not None and _versions(copy) != versions:
            raise InputError(
                "a copy of this graph, made by captured.module(), has been trained since, and its weights are not in the "
                "captured graph: go on with captured.trained(module), or train a copy made by captured.copy()"
            )


def _versions(module: nn.Module) -> Versions:
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    return {name: parameter._version for name, parameter in parameters.items()}
