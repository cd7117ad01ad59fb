"""Recurrent layers (and ``istft``) as one node: through capture, through ONNX, and back.

torch's own shape propagation unrolls a recurrent layer over time, which fixes the length and costs minutes. A custom
operator with the same signature stands in for it while a graph is traced (``tracing``), and is replaced by the ATen
operator in the traced program (``restore``), so that a saved program needs nothing but torch. For ONNX the custom
operator is put back, with a translation to one ONNX ``GRU``, ``LSTM`` or ``RNN`` node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from shrinkspeech.graph import inverse_stft

aten = torch.ops.aten


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
    return aten.lstm.input(x, states, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


def _of_one_state(name: str, operator: Any) -> Any:
    """An ATen recurrence whose state is one tensor, under another name."""

    def call(
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
        result: tuple[Tensor, Tensor] = operator(
            x, state, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
        )
        return result

    return torch.library.custom_op(f"shrinkspeech::{name}", call, mutates_args=())


gru = _of_one_state("gru", aten.gru.input)
rnn_tanh = _of_one_state("rnn_tanh", aten.rnn_tanh.input)
rnn_relu = _of_one_state("rnn_relu", aten.rnn_relu.input)


def _output(x: Tensor, state: Tensor, params: list[Tensor], both: bool, batch_first: bool) -> Tensor:
    """Shape rule: ``[B, T, I]`` (or ``[T, B, I]``) to ``[B, T, H]``, twice as wide with two directions.

    The checks tie sizes while a graph is traced: a state has the batch of the input.
    """
    torch._check(x.shape[2] == params[0].shape[1], lambda: "a recurrent layer's input has the width of weight_ih")
    torch._check(x.shape[0 if batch_first else 1] == state.shape[1], lambda: "a state has the batch of the input")
    return x.new_empty((x.shape[0], x.shape[1], state.shape[2] * (2 if both else 1)))


def _one_state(x: Tensor, state: Tensor, params: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor]:
    return _output(x, state, params, *rest[4:]), torch.empty_like(state)


for _operator in (gru, rnn_tanh, rnn_relu):
    _operator.register_fake(_one_state)


@lstm.register_fake
def _(x: Tensor, states: list[Tensor], params: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    h, c = states
    torch._check(h.shape[1] == c.shape[1], lambda: "both states of an LSTM have one batch")
    return _output(x, h, params, *rest[4:]), torch.empty_like(h), torch.empty_like(c)


STAND_INS = {
    aten.gru.input: torch.ops.shrinkspeech.gru.default,
    aten.lstm.input: torch.ops.shrinkspeech.lstm.default,
    aten.rnn_tanh.input: torch.ops.shrinkspeech.rnn_tanh.default,
    aten.rnn_relu.input: torch.ops.shrinkspeech.rnn_relu.default,
    aten.istft.default: torch.ops.shrinkspeech.istft.default,
}
NAMES = ("gru", "lstm", "rnn_tanh", "rnn_relu")


class tracing(TorchFunctionMode):  # reads as a context
    """While active, padded recurrent layers and ``istft`` are traced as one node. Packed sequences are left alone."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "istft" or func is aten.istft.default:
            return inverse_stft.stand_in(*args, **(kwargs or {}))
        if func in STAND_INS:
            return STAND_INS[func](*args, **(kwargs or {}))
        if name in NAMES and len(args) == 9 and isinstance(args[2], list | tuple):
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
    for part in graph_module.modules():  # regions without gradients are graphs of their own
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                if node.op == "call_function" and node.target in table:
                    node.target = table[node.target]
            part.recompile()


def onnx_translations() -> dict[Any, Callable[..., Any]]:
    """How ``torch.onnx.export`` writes the stand-ins: one ONNX ``GRU``, ``LSTM`` or ``RNN`` node each.

    The gates stand in another order in ONNX; the re-ordered weights are constants that the exporter folds afterwards.
    """
    ops = torch.ops.shrinkspeech
    return {
        # torch applies the reset gate after the product with weight_hh, ONNX's default is before it
        ops.gru.default: _onnx("GRU", (1, 0, 2), linear_before_reset=1),
        ops.lstm.default: _onnx("LSTM", (0, 3, 1, 2)),
        ops.rnn_tanh.default: _onnx("RNN", (0,), activations=["Tanh"]),
        ops.rnn_relu.default: _onnx("RNN", (0,), activations=["Relu"]),
    }


def _onnx(kind: str, order: tuple[int, ...], **attributes: Any) -> Callable[..., Any]:
    """A translation to the ONNX operator ``kind``.

    Args:
        order: for each gate of the ONNX operator its place among torch's gates.
    """

    def translate(
        x: Any,
        states: Any,
        params: Any,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        if num_layers != 1 or bidirectional:
            raise NotImplementedError("recurrent layers are split into one call a layer and direction before export")
        if len(params) in (3, 5):
            raise NotImplementedError("ONNX has no LSTM with projection (proj_size)")
        several = list(states) if isinstance(states, list | tuple) else [states]
        return _onnx_layer(kind, order, x, several, list(params), batch_first, attributes)

    return translate


def _onnx_layer(
    kind: str,
    order: tuple[int, ...],
    x: Any,
    states: list[Any],
    params: list[Any],
    batch_first: bool,
    attributes: dict[str, Any],
) -> Any:
    """One layer in one direction, as capture leaves them; returns (output, final states)."""
    from onnxscript import opset18 as op

    hidden = int(params[1].shape[1])
    rows = [gate * hidden + unit for gate in order for unit in range(hidden)]

    def reordered(weight: Any) -> Any:
        return weight if len(order) == 1 else op.Gather(weight, op.Constant(value_ints=rows), axis=0)

    w, r, *biases = [reordered(weight) for weight in params]
    first = op.Constant(value_ints=[0])
    bias = op.Unsqueeze(op.Concat(*biases, axis=0), first) if biases else None
    source = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    weights = (op.Unsqueeze(w, first), op.Unsqueeze(r, first), bias)
    outputs = getattr(op, kind)(source, *weights, None, *states, hidden_size=hidden, **attributes)
    out = op.Squeeze(outputs[0], op.Constant(value_ints=[1]))  # [T, 1, B, H] -> [T, B, H]
    return (op.Transpose(out, perm=[1, 0, 2]) if batch_first else out), *outputs[1:]
