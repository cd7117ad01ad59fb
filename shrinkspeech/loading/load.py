"""Loading: a model file of any usual format, or a factory in the user's code, becomes a captured graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from shrinkspeech.errors import LoadError, NotRunningError, ShrinkSpeechError
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.states import at_rest, not_at_rest
from shrinkspeech.loading.arguments import arranged
from shrinkspeech.loading.checkpoints import fill
from shrinkspeech.loading.examples import examples, seconds_of, shapes_text
from shrinkspeech.loading.factory import FACTORY, Factory, build
from shrinkspeech.loading.files import held_in, is_program, weights_in
from shrinkspeech.loading.huggingface import class_named, load_folder
from shrinkspeech.loading.processors import is_folder, read_folder
from shrinkspeech.loading.usercode import blame, one_line

__all__ = ["folder_of", "is_program", "load", "seconds_of"]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of weights in a folder of Hugging Face."""


def load(
    path: str | Path,
    *,
    factory: str | None = None,
    factory_args: str | Path | None = None,
    weights: str | Path | None = None,
    trust_pickle: bool = False,
    example: Sequence[str] | None = None,
    example_inputs: Sequence[Any] | None = None,
    states: Sequence[str] = (),
) -> Captured:
    """Load a model and capture it.

    Args:
        path: a ``.pt2`` of ``torch.export.save``, a folder of ``save_pretrained``, a file of weights (then with
            ``factory``), a pickled module (then with ``trust_pickle``), or a factory: ``package.module:function`` or
            ``file.py:Class(channels=8)``.
        factory: where the model is built that the weights in ``path`` belong to.
        factory_args: a file of YAML or JSON with the factory's arguments.
        weights: file of weights for a model that ``path`` names as a factory.
        trust_pickle: unpickle whole objects too; this runs the code in them.
        example: the shape of each input, such as ``2x16000``, ``2:int64`` or ``lengths=2:int64``, filled with faint noise.
        example_inputs: the inputs themselves; they go before ``example``.
        states: pairs ``input:output`` of states, where they are not found; ``none`` for a model without any.

    Raises:
        InputError: ``states`` names no input or output, or two that do not fit.
        LoadError: the file is missing, untrusted, damaged or not what it was taken for; factory or weights do not fit.
        CaptureError: the model loads, but cannot be captured.
    """
    given = examples(example or ())
    folder = folder_of(path, weights)
    model: nn.Module | ExportedProgram
    if folder is not None:
        named = factory if weights is None else str(path)
        model, notes = _of_folder(folder, Factory(named, factory_args), trust_pickle)
    else:
        model, notes = _model(str(path), Factory(factory, factory_args), weights, trust_pickle)
    inputs = tuple(example_inputs) if example_inputs is not None else arranged(model, given, str(path)) or None
    if inputs is None and folder is not None:
        inputs = read_folder(folder).example()
    if isinstance(model, ExportedProgram):
        captured = _captured_program(model, inputs, str(path), states)
    else:
        captured = _captured_module(model.cpu().eval(), inputs, str(path), states)
    if example_inputs is None and example:  # noise of the right shape
        captured = at_rest(captured)
    return replace(captured, notes=(*notes, *captured.notes, *not_at_rest(captured)))


def folder_of(path: str | Path, weights: str | Path | None = None) -> Path | None:
    """The folder of Hugging Face that a model or its weights are, if either is one."""
    return next((Path(one) for one in (path, weights) if one is not None and is_folder(one)), None)


def _of_folder(folder: Path, factory: Factory, trust: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """A model of transformers, or the weights in a folder for a factory of the user's own."""
    wanted = class_named(factory.spec)
    if factory.spec is None or wanted is not None:
        if factory.file is not None:
            raise LoadError(f"{folder} holds its configuration itself: leave --factory-args out")
        return load_folder(folder, wanted)
    module = build(factory.spec, factory.arguments)
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise LoadError(f"{folder} holds no {' or '.join(WEIGHTS)}: give the file of weights in its place")
    return module, fill(module, weights_in(file, trust), factory.spec, str(file))


def _model(
    path: str, factory: Factory, weights: str | Path | None, trust: bool
) -> tuple[nn.Module | ExportedProgram, tuple[str, ...]]:
    """The model, and what the user should know about how it was put together."""
    if FACTORY.fullmatch(path) and not Path(path).exists():
        if factory.spec is not None:
            raise LoadError(f"{path} is a factory already: leave --factory out")
        module = build(path, factory.arguments)
        if weights is None:
            return module, (f"the weights are those that {path} returns; no --weights were given",)
        return module, fill(module, weights_in(Path(weights), trust), path, str(weights))
    content = held_in(Path(path), trust)
    if isinstance(content, list):
        if weights is not None:
            raise LoadError(f"{path} holds weights itself: leave --weights out, or give the factory in its place")
        if factory.spec is None:
            raise LoadError(
                f"{path} holds weights without a model: "
                "say which function builds it with --factory package.module:function"
            )
        module = build(factory.spec, factory.arguments)
        return module, fill(module, content, factory.spec, path)
    if factory.given or weights is not None:
        raise LoadError(f"{path} holds a whole model: leave --factory and --weights out")
    return content, ()


def _captured_module(model: nn.Module, inputs: tuple[Any, ...] | None, name: str, states: Sequence[str]) -> Captured:
    if inputs is None:
        raise LoadError(f"{name} brings no example input: give the shape of each input, such as --example 2x16000")
    try:
        return capture(model, inputs, states)
    except NotRunningError as error:
        cause = error.__cause__ or error
        raise LoadError(f"{name} does not run on example inputs of {shapes_text(inputs)}: {blame(cause)}") from cause


def _captured_program(
    program: ExportedProgram, inputs: tuple[Any, ...] | None, name: str, states: Sequence[str]
) -> Captured:
    try:
        return capture(program, inputs, states)
    except ShrinkSpeechError:
        raise
    except Exception as error:
        if inputs is None:
            raise
        raise LoadError(f"{name} does not run on example inputs of {shapes_text(inputs)}: {one_line(error)}") from error
