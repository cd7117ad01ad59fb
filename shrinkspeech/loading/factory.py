"""Factories: functions in the user's code that build a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.usercode import FAILURES, blame, import_file, import_module

FACTORY = re.compile(r"(?P<module>[^:]+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)")
"""``package.module:function`` or ``path/to/file.py:function``."""


def build(spec: str) -> nn.Module:
    """The model that a factory returns.

    Raises:
        LoadError: the factory cannot be read, does not import, is missing, raises, or returns no ``nn.Module``.
    """
    found = FACTORY.fullmatch(spec)
    if found is None:
        raise LoadError(f"cannot read the factory '{spec}': write package.module:function or file.py:function")
    factory: Any = _imported(spec, found["module"])
    for part in found["name"].split("."):
        if not hasattr(factory, part):
            raise LoadError(f"the factory {spec} does not exist: {found['module']} has no '{found['name']}'")
        factory = getattr(factory, part)
    if not isinstance(factory, nn.Module):
        if not callable(factory):
            kind = type(factory).__name__
            raise LoadError(f"the factory {spec} is of type {kind}: name a function that returns the model")
        try:
            factory = factory()
        except FAILURES as error:
            raise LoadError(f"the factory {spec} fails when called without arguments: {blame(error)}") from error
    if not isinstance(factory, nn.Module):
        raise LoadError(f"the factory {spec} returns {type(factory).__name__}: it must return a torch.nn.Module")
    return factory


def _imported(spec: str, module: str) -> Any:
    if module.endswith(".py") and not Path(module).is_file():
        raise LoadError(f"the factory {spec} does not exist: there is no file {module}")
    try:
        return import_file(Path(module)) if module.endswith(".py") else import_module(module)
    except FAILURES as error:
        raise LoadError(f"the factory {spec} does not import: {blame(error)}") from error
