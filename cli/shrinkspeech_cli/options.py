"""Option groups: options that several commands take, declared once.

A group is a frozen dataclass of annotated options. A command names groups among its parameters, and gets each as one object:

    @dataclass(frozen=True)
    class Training:
        panel: ClassVar = "Training"
        steps: Annotated[int, option("Optimiser steps.", metavar="N", min=1)] = STEPS

    @options
    def fit(source: Source, training: Training) -> None: ...

A group may hold groups, and a subclass may declare an option anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo


def option(help: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """One option of a group. It is named after its field; ``names`` are for flags and short forms.

    Args:
        more: as for ``typer.Option``.
    """
    return typer.Option(*names, metavar=metavar, help=help, **more)


def either(names: Sequence[str]) -> str:
    """``flops, size or latency``."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the groups among its parameters, in their order.

    Raises:
        TypeError: two options have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    own = signature(command).parameters.values()
    expanded = [each for parameter in own for each in _expanded(parameter, hints[parameter.name], None)]
    names = [parameter.name for parameter in expanded]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{command.__name__} has two options called {', '.join(sorted(twice))}")

    @wraps(command)
    def run(**values: Any) -> None:
        command(**{parameter.name: _value(parameter.name, hints[parameter.name], values) for parameter in own})

    run.__signature__ = Signature(expanded)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    return run


def _group(hint: Any) -> Any:
    """The group that an annotation stands for, None for a single option.

    ``Annotated[Base, Group]`` stands for a group that was made at run time, of which type checkers know the base alone.
    """
    found = [
        kind for kind in (hint, *getattr(hint, "__metadata__", ())) if isinstance(kind, type) and is_dataclass(kind)
    ]
    return found[0] if found else None


def _expanded(parameter: Parameter, hint: Any, panel: str | None) -> Iterator[Parameter]:
    """The options that a parameter stands for, by name alone, so that those without a default may follow others."""
    group = _group(hint)
    if group is None:
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=_in_panel(hint, panel))
        return
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = Parameter.empty if field.default is MISSING else field.default
        inner = Parameter(field.name, Parameter.KEYWORD_ONLY, default=default)
        yield from _expanded(inner, hints[field.name], getattr(group, "panel", None))


def _in_panel(hint: Any, panel: str | None) -> Any:
    """An option in the panel of its group, unless it names its own."""
    if panel is None or get_origin(hint) is not Annotated:
        return hint
    kind, *extras = get_args(hint)
    placed = [copy.copy(extra) for extra in extras]
    for extra in placed:
        if isinstance(extra, OptionInfo) and extra.rich_help_panel is None:
            extra.rich_help_panel = panel
    return Annotated[kind, *placed]


def _value(name: str, hint: Any, values: Mapping[str, Any]) -> Any:
    """What a command gets for a parameter: an option's value, or a group of them."""
    group = _group(hint)
    if group is None:
        return values[name]
    hints = get_type_hints(group, include_extras=True)
    return group(**{field.name: _value(field.name, hints[field.name], values) for field in fields(group)})
