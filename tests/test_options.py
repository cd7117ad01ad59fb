"""Option groups: commands get them as objects, and what the commands take by default is what the library takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from inspect import Parameter, signature
from typing import Annotated, Any, ClassVar, get_args

import pytest
import typer
from shrinkspeech_cli import amounts
from shrinkspeech_cli.main import app
from shrinkspeech_cli.options import option, options
from typer.models import ParameterInfo
from typer.testing import CliRunner

import shrinkspeech
from shrinkspeech.budget import quantities
from shrinkspeech.data.options import DataOptions
from shrinkspeech.export.check import check
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.tasks.base import TaskOptions


@dataclass(frozen=True)
class Inner:
    panel: ClassVar[str] = "Inside"
    width: Annotated[int, option("How wide.", min=1)] = 3
    loud: Annotated[bool, option("Whether loud.", "--loud", rich_help_panel="Elsewhere")] = False


@dataclass(frozen=True)
class Outer:
    panel: ClassVar[str] = "Outside"
    name: Annotated[str, option("Its name.", "-n", "--name")]
    inner: Inner = field(default_factory=Inner)
    parts: Annotated[list[str] | None, option("Its parts.")] = None


@dataclass(frozen=True)
class Renamed(Outer):
    name: Annotated[str, option("Another name.")] = "none"


def called(group: Any, *arguments: str) -> Any:
    """What a command that takes the group gets for it."""
    got = []

    def command(file: Any, group: Any) -> None:
        got.append((file, group))

    command.__annotations__.update(file=Annotated[str, typer.Argument()], group=group)
    single = typer.Typer()
    single.command()(options(command))
    result = CliRunner().invoke(single, ["file", *arguments])
    assert result.exit_code == 0, result.output
    [(file, value)] = got
    assert file == "file"
    return value


def test_a_group_arrives_as_one_object() -> None:
    assert called(Outer, "--name", "a", "--width", "5", "--loud", "--parts", "x", "--parts", "y") == Outer(
        "a", Inner(5, True), ["x", "y"]
    )
    assert called(Outer, "-n", "b") == Outer("b")
    assert called(Renamed) == Renamed()


def test_a_group_says_its_panel_unless_an_option_does() -> None:
    @options
    def command(outer: Outer, plain: Annotated[int, option("A number.")] = 0) -> None: ...

    panels = {name: info(parameter).rich_help_panel for name, parameter in signature(command).parameters.items()}
    assert panels == {"name": "Outside", "width": "Inside", "loud": "Elsewhere", "parts": "Outside", "plain": None}


def test_a_subclass_declares_an_option_anew_in_its_place() -> None:
    @options
    def command(outer: Renamed) -> None: ...

    parameters = signature(command).parameters
    assert list(parameters) == ["name", "width", "loud", "parts"]
    assert (info(parameters["name"]).help, parameters["name"].default) == ("Another name.", "none")


def test_two_options_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="two options called width"):

        @options
        def command(inner: Inner, width: Annotated[int, option("Also wide.")] = 0) -> None: ...


def test_amounts_are_told_by_their_quantity() -> None:
    assert called(amounts.Targets, "--target-flops", "25%", "--target-size", "3kB").given() == {
        "flops": "25%",
        "size": "3kB",
    }
    assert called(amounts.Limits, "--max-latency", "5ms").given() == {"latency": "5ms"}
    assert called(amounts.Limits).given() == {}


def test_every_quantity_of_the_library_is_an_option() -> None:
    group = called(amounts.Targets)
    assert [each.name for each in fields(group)] == [f"target_{name}" for name in quantities()]
    assert set(amounts.MEASURED_IN_FILES) <= set(quantities())


def info(parameter: Parameter) -> ParameterInfo:
    [found] = [extra for extra in get_args(parameter.annotation)[1:] if isinstance(extra, ParameterInfo)]
    return found


COMMANDS: dict[str, Callable[..., Any]] = {
    command.name or "": command.callback for command in app.registered_commands if command.callback
}


def of_dataclass(kind: Any) -> dict[str, Any]:
    return {each.name: each.default for each in fields(kind)}


def of_function(function: Callable[..., Any]) -> dict[str, Any]:
    return {each.name: each.default for each in signature(function).parameters.values()}


LIBRARY = {
    "fit": [
        of_function(shrinkspeech.fit),
        of_dataclass(Settings),
        of_dataclass(DataOptions),
        of_dataclass(TaskOptions),
    ],
    "export": [of_function(shrinkspeech.export_onnx)],
    "check": [of_function(check)],
    "inspect": [],
}
LIBRARY["sweep"] = [of_function(shrinkspeech.sweep), *LIBRARY["fit"][1:]]
NAMES = {"top_k": "top"}
WRITTEN = {"snr": "-5:20", "where": None, "noise_where": None, "seconds": None}
"""Defaults that the command line writes in its own way, or finds out."""


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_those_of_the_library(command: str) -> None:
    compared = 0
    for parameter in signature(COMMANDS[command]).parameters.values():
        for known in LIBRARY[command]:
            name = NAMES.get(parameter.name, parameter.name)
            if known.get(name, Parameter.empty) is not Parameter.empty:
                assert parameter.default == WRITTEN.get(name, known[name]), parameter.name
                compared += 1
    assert compared >= {"fit": 25, "sweep": 25, "export": 2, "check": 5, "inspect": 0}[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_in_a_sentence(command: str) -> None:
    shown = {each: info(each) for each in signature(COMMANDS[command]).parameters.values() if not info(each).hidden}
    assert [each.name for each, declared in shown.items() if not (declared.help or "").endswith(".")] == []
    flags = (bool, bool | None)
    values = [declared.metavar for each, declared in shown.items() if get_args(each.annotation)[0] not in flags]
    assert None not in values
