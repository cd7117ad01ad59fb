"""Complex numbers of a graph as pairs of real tensors, and the nodes that compute with them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from shrinkspeech.export.transforms import Forms
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.constants import constant_value
from shrinkspeech.graph.state import undisturbed

aten = torch.ops.aten


@dataclass(frozen=True)
class Kind:
    """What a node returned for the example: shape and type of its first tensor; a number has no shape."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @property
    def is_complex(self) -> bool:
        return self.dtype is not None and self.dtype.is_complex


class Kinds(fx.Interpreter):
    """Runs a graph and writes down what its nodes return."""

    def __init__(self, captured: Captured) -> None:
        super().__init__(captured.graph_module)
        self.found: dict[fx.Node, Kind] = {}
        with torch.no_grad(), undisturbed(captured.graph_module):
            self.run(*captured.example_inputs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        tensors = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        self.found[n] = Kind(tuple(tensors[0].shape), tensors[0].dtype) if tensors else Kind((), None)
        return result


@dataclass(frozen=True)
class Parts:
    """Real and imaginary part, each a node or a number; a pair of both on a last axis, where there is one already."""

    real: Any
    imaginary: Any
    pair: Any = None


class Writer:
    """Writes nodes in front of ``node`` that compute with parts."""

    def __init__(
        self,
        module: fx.GraphModule,
        node: fx.Node,
        kinds: Mapping[fx.Node, Kind],
        known: Mapping[fx.Node, Parts],
        forms: Forms,
    ) -> None:
        self.node: Any = node
        self.module, self.kinds, self.known, self.forms = module, kinds, known, forms

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        with self.module.graph.inserting_before(self.node):
            new = self.module.graph.call_function(target, args, kwargs)
        new.meta = {key: self.node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in self.node.meta}
        return new

    def constant(self, name: str, value: Tensor) -> fx.Node:
        """A new constant of the module; its name goes on with a number where it is taken."""
        free = next(n for i in range(10**6) if not hasattr(self.module, n := f"{name}_{i}"))
        self.module.register_buffer(free, value)
        with self.module.graph.inserting_before(self.node):
            return self.module.graph.get_attr(free)

    def arguments(self) -> dict[str, Any]:
        """The node's arguments by name, with the defaults of its operator's schema."""
        schema = self.node.target._schema.arguments
        given = {argument.name: value for argument, value in zip(schema, self.node.args, strict=False)}
        return {argument.name: argument.default_value for argument in schema} | given | dict(self.node.kwargs)

    def shape(self, value: Any) -> tuple[int, ...]:
        return self.kinds[value].shape if value in self.kinds else ()

    def dtype(self, value: Any) -> torch.dtype | None:
        return self.kinds[value].dtype if value in self.kinds else None

    def is_complex(self, value: Any) -> bool:
        return isinstance(value, complex) or (isinstance(value, fx.Node) and value in self.known)

    def parts(self, value: Any) -> Parts:
        """Of a complex node or number; a real one has an imaginary part of 0."""
        if isinstance(value, complex):
            return Parts(value.real, value.imag)
        return self.known[value] if self.is_complex(value) else Parts(value, 0)

    def pair(self, value: Any) -> Any:
        """``[..., 2]``."""
        parts = self.parts(value)
        return (
            parts.pair if parts.pair is not None else self.call(aten.stack.default, [parts.real, parts.imaginary], -1)
        )

    def of_pair(self, pair: Any) -> Parts:
        return Parts(self.call(aten.select.int, pair, -1, 0), self.call(aten.select.int, pair, -1, 1), pair)

    def constant_value(self, value: Any) -> Tensor | None:
        """What a node holds if it depends on no input."""
        return constant_value(self.module, value)

    # Arithmetic on parts: a number may stand on either side, and 0 and 1 leave no node behind.

    def add(self, x: Any, y: Any, sign: int = 1) -> Any:
        if _is(y, 0):
            return x
        if _is(x, 0):
            return y if sign == 1 else self.neg(y)
        if isinstance(x, fx.Node):
            return self.call(aten.add.Tensor if sign == 1 else aten.sub.Tensor, x, y)
        if isinstance(y, fx.Node):
            return self.call(aten.add.Tensor, y if sign == 1 else self.neg(y), x)
        return x + sign * y

    def sub(self, x: Any, y: Any) -> Any:
        return self.add(x, y, -1)

    def mul(self, x: Any, y: Any) -> Any:
        if _is(x, 0) or _is(y, 0):
            return 0
        if _is(x, 1) or _is(y, 1):
            return y if _is(x, 1) else x
        if not isinstance(x, fx.Node):
            x, y = y, x
        return self.call(aten.mul.Tensor, x, y) if isinstance(x, fx.Node) else x * y

    def div(self, x: Any, y: Any) -> Any:
        if _is(x, 0):
            return 0
        if isinstance(x, fx.Node):
            return self.call(aten.div.Tensor, x, y)
        return self.mul(self.call(aten.reciprocal.default, y), x) if isinstance(y, fx.Node) else x / y

    def neg(self, x: Any) -> Any:
        return self.call(aten.neg.default, x) if isinstance(x, fx.Node) else -x

    def square(self, parts: Parts) -> Any:
        """|z|²."""
        return self.add(self.mul(parts.real, parts.real), self.mul(parts.imaginary, parts.imaginary))

    def whole(self, real: Any, imaginary: Any) -> Parts:
        """Parts as tensors: a number becomes one of the other's shape."""
        like = next(part for part in (real, imaginary) if isinstance(part, fx.Node))
        filled = [
            part if isinstance(part, fx.Node) else self.call(aten.full_like.default, like, float(part))
            for part in (real, imaginary)
        ]
        return Parts(*filled)

    def broadcast(self, parts: Parts) -> Parts:
        """Parts of the node's own shape, where an operand alone gave one of them."""
        if all(self.shape(source) == self.shape(self.node) for source in self.node.all_input_nodes):
            return parts
        both = self.call(aten.broadcast_tensors.default, [parts.real, parts.imaginary])
        return Parts(*(self.call(operator.getitem, both, i) for i in range(2)))


def _is(value: Any, number: int) -> bool:
    return not isinstance(value, fx.Node) and value == number
