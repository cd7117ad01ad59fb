"""Recurrent layers as one node: through capture, through ONNX, and back.

torch's own shape propagation unrolls a recurrent layer over time, which fixes the length and costs minutes. A custom
operator with the same signature stands in for it while a graph is traced (``tracing``), and is replaced by the ATen
operator in the traced program (``restore``), so that a saved program needs nothing but torch. For ONNX the custom
operator is put back, with a translation to one ONNX ``GRU`` or ``LSTM`` node.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten


@torch.library.custom_op("shrinkspeech::gru", mutates_args=())
def gru(
    x: Tensor,
    state: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """``aten.gru.input`` under another name."""
    return aten.gru.input(x, state, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)  # type: ignore[no-any-return]


@torch.library.custom_op("shrinkspeech::lstm", mutates_args=())
def lstm(
    x: Tensor,
    states: list[Tensor],
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``aten.lstm.input`` under another name."""
    return aten.lstm.input(x, states, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)  # type: ignore[no-any-return]


def _output(x: Tensor, params: list[Tensor], width: int, bidirectional: bool) -> Tensor:
    torch._check(x.shape[2] == params[0].shape[1], lambda: "a recurrent layer's input has the width of weight_ih")
    return x.new_empty((x.shape[0], x.shape[1], width * (2 if bidirectional else 1)))


@gru.register_fake
def _(x: Tensor, state: Tensor, params: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor]:
    return _output(x, params, params[1].shape[1], rest[4]), torch.empty_like(state)


@lstm.register_fake
def _(x: Tensor, states: list[Tensor], params: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _output(x, params, states[0].shape[-1], rest[4]), torch.empty_like(states[0]), torch.empty_like(states[1])


STAND_INS = {
    aten.gru.input: torch.ops.shrinkspeech.gru.default,
    aten.lstm.input: torch.ops.shrinkspeech.lstm.default,
}


class tracing(TorchFunctionMode):  # noqa: N801 (reads as a context)
    """While active, padded recurrent layers are traced as one node. Packed sequences are left alone."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func in STAND_INS:
            return STAND_INS[func](*args, **(kwargs or {}))
        if name in ("gru", "lstm") and len(args) == 9 and isinstance(args[2], list | tuple):
            state = list(args[1]) if name == "lstm" else args[1]
            return getattr(torch.ops.shrinkspeech, name).default(args[0], state, list(args[2]), *args[3:])
        return func(*args, **(kwargs or {}))


def restore(graph_module: fx.GraphModule) -> None:
    """Replace the stand-ins by the ATen operators, in place."""
    _swap(graph_module, {stand_in: op for op, stand_in in STAND_INS.items()})


def stand_in(graph_module: fx.GraphModule) -> None:
    """Replace the ATen operators by the stand-ins, in place."""
    _swap(graph_module, STAND_INS)


def _swap(graph_module: fx.GraphModule, table: dict[Any, Any]) -> None:
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and node.target in table:
            node.target = table[node.target]
    graph_module.recompile()


def onnx_translations() -> dict[Any, Any]:
    """How ``torch.onnx.export`` writes the stand-ins: onnxscript's own translation of the ATen operators."""
    from onnxscript.function_libs.torch_lib.ops import core

    return {
        torch.ops.shrinkspeech.gru.default: core.aten_gru,
        torch.ops.shrinkspeech.lstm.default: core.aten_lstm,
    }
