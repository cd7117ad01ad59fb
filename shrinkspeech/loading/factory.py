"""Factories: functions in the user's code that build a model, perhaps with arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from shrinkspeech.errors import LoadError
from shrinkspeech.graph.calls import unwrapped
from shrinkspeech.loading.huggingface import PACKAGE, build_class
from shrinkspeech.loading.usercode import FAILURES, blame, import_file, import_module, one_line

FACTORY = re.compile(
    r"(?P<module>[^:(]+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)\s*(?P<arguments>\(.*)?", re.DOTALL
)
"""``package.module:function``, ``path/to/file.py:function`` or either with arguments: ``file.py:Net(channels=8)``."""

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
"""By position, and by name."""


@dataclass(frozen=True)
class Factory:
    """What the user says of a factory: its name, and a file with its arguments."""

    spec: str | None = None
    file: str | Path | None = None

    @property
    def given(self) -> bool:
        return self.spec is not None or self.file is not None

    @property
    def arguments(self) -> Path | None:
        return None if self.file is None else Path(self.file)


def build(spec: str, arguments: Path | None = None) -> nn.Module:
    """The model that a factory returns, without what training wraps around it.

    Args:
        arguments: a file of YAML or JSON with the factory's arguments by name, or in their order.

    Raises:
        LoadError: the factory or its arguments cannot be read, it does not import, is missing, raises, or returns no
            ``nn.Module``.
    """
    found = FACTORY.fullmatch(spec)
    if found is None:
        raise LoadError(f"cannot read the factory '{spec}': write package.module:function or file.py:function")
    given, named = _arguments(spec, found["arguments"], arguments)
    if found["module"] == PACKAGE:
        if given:
            raise LoadError(f"the factory {spec} takes the arguments of a configuration, each by its name")
        return build_class(found["name"], named)
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
            factory = factory(*given, **named)
        except FAILURES as error:
            raise LoadError(_failed(spec, error, bool(given or named))) from error
    elif given or named:
        raise LoadError(f"the factory {spec} is a model already, and takes no arguments: leave them out")
    if not isinstance(factory, nn.Module):
        raise LoadError(f"the factory {spec} returns {type(factory).__name__}: it must return a torch.nn.Module")
    return unwrapped(factory)


def _failed(spec: str, error: BaseException, given: bool) -> str:
    if given:
        return f"the factory {spec} fails with the arguments given: {blame(error)}"
    way = (
        f" (give its arguments as in '{spec}(channels=8)' or by --factory-args FILE)"
        if isinstance(error, TypeError)
        else ""
    )
    return f"the factory {spec} fails when called without arguments: {blame(error)}{way}"


def _arguments(spec: str, text: str | None, file: Path | None) -> Arguments:
    if text is not None and file is not None:
        raise LoadError(f"the factory {spec} has its arguments in brackets already: leave --factory-args {file} out")
    if file is not None:
        return _from_file(file)
    return ((), {}) if text is None else _literals(spec, text)


def _literals(spec: str, text: str) -> Arguments:
    """``(8, mode="fast")`` without running anything: numbers, strings, truth values, None, and containers of them."""
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        if (
            not isinstance(call, ast.Call)
            or not isinstance(call.func, ast.Name)
            or any(k.arg is None for k in call.keywords)
        ):
            raise ValueError("no call")
        return [ast.literal_eval(x) for x in call.args], {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise LoadError(
            f"cannot read the arguments of the factory {spec}: write numbers, strings in quotes, True, False, None, lists and "
            "dictionaries of them, such as Net(channels=8, mode='fast'), or give a file with --factory-args"
        ) from error


def _from_file(file: Path) -> Arguments:
    if not file.is_file():
        raise LoadError(
            f"there is no file {file}: give --factory-args a YAML or JSON file with the factory's arguments"
        )
    try:
        held = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LoadError(f"{file} is not YAML of plain values: write 'name: value' lines ({one_line(error)})") from error
    if isinstance(held, list):
        return held, {}
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise LoadError(f"{file} holds no arguments for a factory: write one 'name: value' a line")
    return (), held


def _imported(spec: str, module: str) -> Any:
    if module.endswith(".py") and not Path(module).is_file():
        raise LoadError(f"the factory {spec} does not exist: there is no file {module}")
    try:
        return import_file(Path(module)) if module.endswith(".py") else import_module(module)
    except FAILURES as error:
        raise LoadError(f"the factory {spec} does not import: {blame(error)}") from error
