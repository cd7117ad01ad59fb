"""Which input is which: inputs by position, by the names of forward's parameters, and by the keys of dictionaries.

--example 2x16000                              the first input
--example lengths=2:int64                      the parameter 'lengths', also where it can be given by name alone
--example batch.wave=2x16000 --example batch.lengths=2:int64      a dictionary, for the parameter 'batch'
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from shrinkspeech.errors import LoadError
from shrinkspeech.graph.calls import by_name

BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def arranged(model: nn.Module | ExportedProgram, given: Sequence[tuple[str, Tensor]], name: str) -> tuple[Any, ...]:
    """The inputs in the order in which the model takes them. One that takes some by name alone is changed in place, so that
    it takes all by position.

    Args:
        given: each with its name, empty for those by position, which come first.
        name: of the model, for messages.

    Raises:
        LoadError: a name is not that of an input, comes twice, or stands before one by position.
    """
    count = next((i for i, (key, _) in enumerate(given) if key), len(given))
    if not all(key for key, _ in given[count:]):
        raise LoadError("an --example without a name stands behind one with a name: put those without first")
    first = [x for _, x in given[:count]]
    named = _grouped(given[count:])
    if not named:
        return tuple(first)
    if isinstance(model, ExportedProgram):
        return _of_program(model, first, named, name)
    taken = list(signature(model.forward).parameters.values())
    order = [p.name for p in taken if p.kind in BY_POSITION][count:]
    known = {p.name for p in taken if p.kind is Parameter.KEYWORD_ONLY} | set(order)
    if not any(p.kind is Parameter.VAR_KEYWORD for p in taken):
        _refuse_unknown(named, known, [p.name for p in taken], name)
    while order and order[0] in named:
        first.append(named.pop(order.pop(0)))
    if named:
        by_name(model, len(first), list(named))
    return (*first, *named.values())


def _grouped(given: Sequence[tuple[str, Tensor]]) -> dict[str, Any]:
    """By the parameter's name; ``batch.wave`` and ``batch.lengths`` are a dictionary for ``batch``."""
    found: dict[str, Any] = {}
    for key, x in given:
        head, _, rest = key.partition(".")
        inside = found.setdefault(head, {}) if rest else found
        if not isinstance(inside, dict) or (rest or head) in inside:
            raise LoadError(f"--example {key} is given twice: give each input once")
        inside[rest or head] = x
    return found


def _of_program(program: ExportedProgram, first: list[Tensor], named: dict[str, Any], name: str) -> tuple[Any, ...]:
    inputs = [str(key) for key in program.graph_signature.user_inputs]
    _refuse_unknown(named, set(inputs[len(first) :]), inputs, name)
    return (*first, *(named[key] for key in inputs if key in named))


def _refuse_unknown(named: dict[str, Any], known: set[str], every: Sequence[str], name: str) -> None:
    for key in named:
        if key not in known:
            more = " (it has one already, by position)" if key in every else ""
            raise LoadError(
                f"{name} takes no input '{key}'{more}: --example can name {', '.join(sorted(known)) or 'none'}"
            )
