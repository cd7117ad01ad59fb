"""What of a graph has no form in ONNX, told without an export.

torch's exporter writes an operator that it has a translation for, and takes any other apart as far as it can. The same tables
are asked here, for each node of the graph that would be exported; operators are taken apart on tensors without memory.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from shrinkspeech.errors import ShrinkSpeechError
from shrinkspeech.export.complex_parts import Kind, Kinds
from shrinkspeech.export.real_numbers import use_real_numbers
from shrinkspeech.export.spectra import STFT
from shrinkspeech.export.transforms import OPERATOR, Forms
from shrinkspeech.graph import stand_ins
from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.graph.quiet import quiet

PYTHON = frozenset(
    (operator.__name__, "_operator", math.__name__, "builtins", "torch", "torch.fx.experimental.symbolic_shapes")
)
"""Modules of functions that calculate with sizes."""


@dataclass(frozen=True)
class Missing:
    """Why the export of a graph would fail: an operator, or a sentence where it is not one operator's fault.

    Attributes:
        where: the user's module and line.
        why: the operator has no translation; or what else stands in the way.
    """

    operator: str
    where: str
    why: str

    @property
    def text(self) -> str:
        """One sentence."""
        return " ".join(filter(None, [self.operator, f"at {self.where}:" if self.where else "", self.why]))


def missing(captured: Captured) -> tuple[Missing, ...]:
    """What of a captured graph an ONNX file cannot say; empty where nothing is known that would stand in the way."""
    try:
        prepared, kinds = _in_real_numbers(captured)
    except ShrinkSpeechError as error:
        return (Missing("", "", str(error)),)
    with quiet():
        return tuple(
            Missing(str(node.target), captured.where(node), why)
            for node in prepared.graph_module.graph.nodes
            if node.op == "call_function" and (why := _problem(prepared, kinds, node))
        )


def _in_real_numbers(captured: Captured) -> tuple[Captured, Mapping[fx.Node, Kind]]:
    """The graph that would be exported, and what its nodes return where that was looked up.

    A graph without complex numbers is exported as it is, and need not be run for it.
    """
    nodes = captured.graph_module.graph.nodes
    values = [x for node in nodes for x in pytree.tree_leaves(node.meta.get("val"))]
    spectra = any(node.target in STFT or node.target is torch.ops.aten.istft.default for node in nodes)
    if not spectra and not any(isinstance(x, Tensor) and x.is_complex() for x in values):
        return captured, {}
    prepared = replace(captured, graph_module=captured.copy())
    use_real_numbers(prepared, Forms(OPERATOR))
    return prepared, Kinds(prepared).found


def _problem(captured: Captured, kinds: Mapping[fx.Node, Kind], node: fx.Node) -> str:
    """Why a node has no form in ONNX; empty where it has one."""
    target: Any = node.target
    if target in stand_ins.STAND_INS:
        parameters: Any = node.args[2] if len(node.args) > 2 else ()
        return "ONNX has no LSTM with projection (proj_size)" if _projects(parameters) else ""
    if _translations().is_registered(target) or getattr(target, "__module__", "") in PYTHON:
        return ""
    if not isinstance(target, OpOverload):
        return "has no translation to ONNX"
    left = _left(target, *_without_memory(captured, kinds, node))
    if not left:
        return ""
    return "has no translation to ONNX" + ("" if left == str(target) else f", nor has its part {left}")


def _projects(parameters: Any) -> bool:
    return isinstance(parameters, list | tuple) and len(parameters) in (3, 5)


@cache
def _translations() -> Any:
    """The exporter's table of translations."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return ONNXRegistry.from_torchlib()


@cache
def _decompositions() -> Mapping[Any, Any]:
    """How the exporter takes apart what it has no translation for."""
    from torch.onnx._internal.exporter import _decomp

    known = set(_decomp.get_onnx_implemented_overloads(_translations()))
    return _decomp.create_onnx_friendly_decomposition_table(known)


def _without_memory(captured: Captured, kinds: Mapping[fx.Node, Kind], node: fx.Node) -> tuple[Any, Any]:
    """The arguments of a node, with tensors of the sizes of the example on the meta device."""

    def stand_in(source: fx.Node) -> Any:
        if source.name in captured.numbers:
            return captured.numbers[source.name]
        value = (
            attribute(captured.graph_module, str(source.target)) if source.op == "get_attr" else source.meta.get("val")
        )
        kind = kinds.get(source)
        shape = kind.shape if kind else captured.shapes[source.name][0]
        dtype = kind.dtype if kind else value.dtype if isinstance(value, Tensor) else None
        return torch.empty(shape, dtype=dtype or torch.float32, device="meta")

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), stand_in)
    return args, kwargs


class _Parts(TorchDispatchMode):
    """Takes apart what has no translation, as the exporter does, and notes what is left without one."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _translations().is_registered(func) or func in (
            torch.ops.aten.empty.memory_format,
            torch.ops.prim.device.default,
        ):
            return func(*args, **kwargs)
        for taken_apart in (_decompositions().get(func), func.decompose):
            with self:
                result = NotImplemented if taken_apart is None else taken_apart(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if not func._schema.is_mutable:  # the exporter puts the pure form in the place of one that writes
            self.left.append(str(func))
        return func(*args, **kwargs)


def _left(target: OpOverload, args: Any, kwargs: Any) -> str:
    """The first part of an operator that nothing is left to take apart of; empty where there is none."""
    parts = _Parts()
    try:
        with torch.no_grad(), parts:
            target(*args, **kwargs)
    except Exception:  # an operator may not do without memory: of what it does beyond that nothing is known
        pass
    return parts.left[0] if parts.left else ""
