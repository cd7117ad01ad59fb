"""A model for every pointwise overload, made from its schema: Linear → operator → Linear.

Each tensor argument comes from a linear layer of its own, with values between 0.1 and 0.9. An in-place form writes
to a tensor that is read through a view made before, so that it stays in place in the graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from shrinkspeech.graph.captured import Captured, with_shapes
from shrinkspeech.graph.modes import trainable
from shrinkspeech.graph.normalise import normalise

aten = torch.ops.aten
UNREPEATABLE = ("rand_like", "randn_like", "bernoulli", "bernoulli_", "empty_like")
"""Operators whose values cannot be compared: they are computed, and then chosen nowhere."""
COMPLEX = (aten.imag.default, aten._conj.default)
WITHOUT_SLOPE = ("bernoulli", "bernoulli_", "floor_divide", "floor_divide_", "remainder")
"""Operators of which torch has no derivative (in some overload): they take detached values."""


class Pointwise(nn.Module):
    """Linear → ``target`` → Linear over ``[B, T, 6]``."""

    def __init__(self, target: Any) -> None:
        super().__init__()
        self.target = target
        self.bitwise = any(word in target._opname for word in ("bitwise", "__and__", "__or__", "__xor__"))
        self.sources = nn.ModuleList(nn.Linear(6, 7) for _ in range(3))
        self.last = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        base = self.operand(x, 0)
        seen = base.transpose(1, 2)
        args, kwargs = self.arguments(x, base)
        y = self.target(*args, **kwargs)
        y = aten.real.default(y) if self.target in COMPLEX[1:] else y
        if self.target._opname in UNREPEATABLE:
            result = seen.transpose(1, 2) if self.target._schema.is_mutable else y
            y = aten.where.self(aten.isfinite.default(self.operand(x, 2)), self.operand(x, 1), result)
        elif self.target._schema.is_mutable:
            y = seen.transpose(1, 2)
        return aten.linear.default(aten.to.dtype(y, torch.float32), self.last.weight, self.last.bias)

    def operand(self, x: Tensor, index: int) -> Tensor:
        layer = self.sources[index]
        y = aten.sigmoid.default(aten.linear.default(x, layer.weight, layer.bias)) * 0.8 + 0.1
        if self.bitwise:
            return aten.to.dtype(y * 8, torch.int32)
        if self.target._opname in WITHOUT_SLOPE:
            return aten.detach.default(y)
        return aten.to.dtype(y, torch.complex64) if self.target in COMPLEX else y

    def arguments(self, x: Tensor, base: Tensor) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        tensors = 0
        for argument in self.target._schema.arguments:
            value = self.value(argument)
            if str(argument.type) in ("Tensor", "Optional[Tensor]"):
                value = base if tensors == 0 else self.operand(x, tensors)
                value = value > 0.5 if argument.name in ("condition", "mask") else value
                value = value.mean() if self.target._overloadname == "Tensor" and argument.name == "value" else value
                tensors += 1
            elif value is None and (argument.has_default_value() or not argument.kwarg_only):
                continue
            kwargs.update({argument.name: value}) if argument.kwarg_only else args.append(value)
        return args, kwargs

    def value(self, argument: Any) -> Any:
        """A value for an argument that is no tensor; None leaves it out."""
        kind = str(argument.type)
        if self.bitwise and kind == "number":
            return 3
        required = {"rounding_mode": "floor", "decimals": 2, "train": False, "device": "cpu", "dtype": torch.float32}
        if argument.name in required and (not argument.has_default_value() or argument.name == "rounding_mode"):
            return required[argument.name]
        if kind in ("number", "float", "Optional[number]") and (
            not argument.has_default_value() or self.target._opname.startswith(("clamp", "clip"))
        ):
            return 0.3
        return None


def traced(module: nn.Module, *inputs: Tensor) -> Captured:
    """The operators that ``forward`` calls, one node each: export would replace some of them by others."""
    graph_module = trainable(_Tracer.trace_module(module))
    graph_module.meta = {}
    normalise(graph_module)
    return with_shapes(Captured(graph_module, inputs, tuple(frozenset({0, 1}) for _ in inputs), {}))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False

    @classmethod
    def trace_module(cls, module: nn.Module) -> fx.GraphModule:
        return fx.GraphModule(module, _aten(cls().trace(module)))


METHODS = {"transpose": aten.transpose.int, "mean": aten.mean.default}


def _aten(graph: fx.Graph) -> fx.Graph:
    """Tensor methods and python arithmetic as the operators that export writes."""
    operators = {"mul": aten.mul.Tensor, "add": aten.add.Tensor, "gt": aten.gt.Scalar}
    for node in graph.nodes:
        if node.op == "call_method":
            node.op, node.target = "call_function", METHODS[node.target]
        elif node.op == "call_function" and getattr(node.target, "__module__", "") == "_operator":
            node.target = operators[node.target.__name__]
    return graph
