"""A captured graph as an ONNX graph: torch's exporter, and what it leaves undone."""

from __future__ import annotations

import ast
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import fx

from shrinkspeech.errors import ExportError
from shrinkspeech.export.onnx_file import first_line
from shrinkspeech.export.operator_costs import COUNTS
from shrinkspeech.export.real_numbers import use_real_numbers
from shrinkspeech.export.rewriting import by_operator
from shrinkspeech.export.transforms import OPERATOR, Forms
from shrinkspeech.export.unread import without_unread
from shrinkspeech.graph import stand_ins
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.names import input_names, output_names
from shrinkspeech.graph.quiet import quiet
from shrinkspeech.graph.swift import swift


def onnx_model(captured: Captured, forms: Forms | None = None) -> Any:
    """A captured model as ``onnx_ir.Model``, named after the user's inputs, outputs and modules.

    Args:
        forms: of its Fourier transforms, by default the runtime's own operators, which need no weights.

    Raises:
        ExportError: torch's exporter cannot write it; the message holds the cause.
    """
    with _silent():
        prepared = replace(captured, graph_module=captured.copy())
        attend_over_heads(prepared)
        forms = forms or Forms(OPERATOR)
        use_real_numbers(prepared, forms)
        prepared = without_unread(prepared, forms)
        try:
            program = torch.onnx.export(
                prepared.program(for_onnx=True),
                dynamo=True,
                custom_translation_table=stand_ins.onnx_translations(),
                input_names=input_names(captured),
                output_names=output_names(captured),
                optimize=False,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps anything, many lines long; the cause says what it was
            raise ExportError(f"this model cannot be written as ONNX: {first_line(_root(error))}") from error
        assert program is not None
        optimise(program.model)
        program.rename_axes(_axis_names(program.model))
    compute_constants(program.model)
    tidy(program.model)
    return program.model


def attend_over_heads(captured: Captured) -> None:
    """Attention without an axis of heads gets one of size 1, in place: the exporter takes nothing else."""
    aten = torch.ops.aten
    graph = captured.graph_module.graph

    def flat(node: Any) -> bool:
        return isinstance(node, fx.Node) and len(captured.shapes[node.name][0]) == 3

    attention = [node for node in graph.nodes if node.target is aten.scaled_dot_product_attention.default]
    masks = {node: node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask") for node in attention}
    for node, mask in [(node, mask if flat(mask) else None) for node, mask in masks.items() if flat(node)]:
        with graph.inserting_before(node):
            for source in dict.fromkeys(node.args[:3]):
                node.replace_input_with(source, graph.call_function(aten.unsqueeze.default, (source, 1)))
            if mask is not None:
                node.replace_input_with(mask, graph.call_function(aten.unsqueeze.default, (mask, 1)))
        with graph.inserting_after(node):
            single = graph.call_function(aten.squeeze.dim, (node, 1))
        node.replace_all_uses_with(single, delete_user_cb=lambda user, single=single: user is not single)
    captured.graph_module.recompile()


@contextmanager
def _silent() -> Iterator[None]:
    """The exporter and its libraries warn about themselves and collect garbage; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with quiet(), swift():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _axis_names(model: Any) -> dict[Any, str]:
    """``batch`` for the first dimension, ``time`` for the other if there is just one, else input and position."""
    found: dict[str, tuple[str, int]] = {}
    for value in model.graph.inputs:
        for dim, size in enumerate(value.shape):
            if not isinstance(size, int):
                found.setdefault(str(size.value), (value.name, dim))
    others = [symbol for symbol, (_, dim) in found.items() if dim > 0]
    batches = [symbol for symbol, (_, dim) in found.items() if dim == 0]

    def name(symbol: str, place: tuple[str, int]) -> str:
        if batches == [symbol]:
            return "batch"
        return "time" if others == [symbol] else f"{place[0]}_{place[1]}"

    return {symbol: name(symbol, place) for symbol, place in found.items()}


RECURRENT = ("GRU", "LSTM", "RNN")


def optimise(model: Any) -> None:
    """The optimisation that torch would do, in place, but for two things.

    Contractions of constants stay: a runtime folds them when it loads the file, and the file costs what its graph does.
    A constant of 1e-8 is no zero: torch's optimiser takes it for one and removes the sum, and with it what keeps a norm from
    dividing by 0.
    """
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter import onnx_fusions
    from onnxscript.rewriter.rules.common import _no_op

    rough = {id(rule) for rule in _no_op.rules}
    exact = by_operator(rule for rule in rewriter._DEFAULT_REWRITE_RULES if id(rule) not in rough)
    with mock.patch.object(rewriter, "_DEFAULT_REWRITE_RULES", exact):
        optimizer.optimize_ir(model, should_fold=_may_fold)
    onnx_fusions.fuse(model)


def _may_fold(node: Any) -> bool | None:
    return False if node.op_type in COUNTS else None


def compute_constants(model: Any) -> None:
    """Compute at export what depends on constants alone, such as the re-ordered weights of recurrent layers."""
    from onnxscript import optimizer

    for node in model.graph:
        for value in node.inputs[1:3] if node.op_type in RECURRENT else ():
            source = _initial(value)
            if source is not None and source is not value:
                value.name = f"{source.name}_onnx"
    with _silent():
        # Weights are larger than the optimiser's own limits, which leave them to be re-ordered at every run.
        optimizer.fold_constants(model, input_size_limit=2**40, output_size_limit=2**28, should_fold=_may_fold)
        optimizer.remove_unused_nodes(model)


def _initial(value: Any) -> Any:
    """The initialiser that a chain of operators starts from, if there is just one chain."""
    while value is not None and value.producer() is not None:
        value = value.producer().inputs[0] if value.producer().inputs else None
    return value


def tidy(model: Any) -> None:
    """Name nodes by the user's modules; drop what the exporter noted down, which holds source paths."""
    used: Counter[str] = Counter()
    for node in model.graph:
        scope = _scope(node)
        name = f"{scope}/{node.op_type}" if scope else str(node.op_type)
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


def _scope(node: Any) -> str:
    """Path of the user's module that a node comes from; empty for the model itself or where it is not known."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    except (ValueError, SyntaxError):
        return ""
    path = str(scopes[-2]) if len(scopes) > 1 else ""
    return "" if path.startswith("_empty") else path
