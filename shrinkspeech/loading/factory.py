"""Factories: functions in the user's code that build a model, and the weights that fill it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

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


def fill(model: nn.Module, weights: Mapping[str, Tensor], factory: str, source: str) -> nn.Module:
    """Put weights into a model.

    Prefixes that training wrappers leave (``module.``, ``model.``) are taken off, and a tensor that is tied to another
    under a second name may be missing.

    Raises:
        LoadError: names or shapes differ; the first few of each are named.
    """
    own = model.state_dict()
    weights = _without_prefix(weights, own)
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
    problems = [
        f"{title} {_first(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise LoadError(f"the weights in {source} do not match the model of {factory}: {'; '.join(problems)}")
    model.load_state_dict(weights, strict=False)
    return model


def _without_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in ("module.", "model.", "_orig_mod."):
        if weights and all(name.startswith(prefix) for name in weights) and not weights.keys() & own.keys():
            return {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
