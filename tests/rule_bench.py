"""What a rule says of one node, in one line of text: the node is made by hand, and nothing is captured.

An axis is written ``7`` (fixed), ``a8`` (label a of 8 units), ``a4*3`` (a product) or ``a4+b2`` (a sum); ``!`` stands behind a
frozen label, ``?8`` is a label that the rule made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from shrinkspeech import rules  # noqa: F401  (registers them)
from shrinkspeech.axes.algebra import Axes, Axis, Fixed, Label, Product, Sum, concat, labels_of, product
from shrinkspeech.axes.unifier import Unifier
from shrinkspeech.rules.registry import Effect, NoRule, Site, rule_for


@dataclass(frozen=True)
class T:
    """A tensor argument by its axes."""

    axes: str
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class W(T):
    """One that is a weight."""


@dataclass(frozen=True)
class S:
    """The size of an axis of a tensor argument, as a node."""

    tensor: int
    dim: int


@dataclass(frozen=True)
class N:
    """A number that is computed in the graph."""

    value: int


class Bench:
    """One node, its arguments and a unifier."""

    def __init__(self) -> None:
        self.graph, self.unifier = fx.Graph(), Unifier()
        self.labels: dict[str, Label] = {}
        self.tensors: list[fx.Node] = []
        self.axes: dict[fx.Node, Axes] = {}
        self.values: dict[fx.Node, Any] = {}

    def axis(self, text: str) -> Axis:
        if "+" in text:
            return concat(*map(self.axis, text.split("+")))
        if "*" in text:
            return product(*map(self.axis, text.split("*")))
        if text.isdigit():
            return Fixed(int(text))
        name, size = text[0], int(text[1:])
        if name not in self.labels:
            self.unifier._next += 1
            self.labels[name] = Label(self.unifier._next, size)
        return self.labels[name]

    def tensor(self, given: T) -> fx.Node:
        name = f"x{len(self.tensors)}"
        node = self.graph.create_node("get_attr" if isinstance(given, W) else "placeholder", name, name=name)
        self.axes[node] = tuple(map(self.axis, given.axes.split()))
        self.values[node] = torch.zeros([axis.size for axis in self.axes[node]], dtype=given.dtype)
        node.meta["val"] = self.values[node]
        self.tensors.append(node)
        return node

    def argument(self, given: Any) -> Any:
        match given:
            case T():
                return self.tensor(given)
            case S(tensor=i, dim=dim):
                node = self.graph.call_function(torch.ops.aten.sym_size.int, (self.tensors[i], dim))
                self.values[node] = self.values[self.tensors[i]].shape[dim]
                return node
            case N(value=value):
                node = self.graph.placeholder(f"n{value}")
                self.values[node] = value
                return node
            case list():
                return [self.argument(item) for item in given]
        return given

    def ask(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        args = tuple(map(self.argument, args))
        kwargs = {name: self.argument(value) for name, value in kwargs.items()}
        node = self.graph.call_function(target, args, kwargs)
        real = fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        result = target(*real[0], **real[1])
        leaves = result if isinstance(result, list | tuple) else [result]
        shapes = tuple(tuple(x.shape) for x in leaves if isinstance(x, Tensor))
        site = Site(
            node,
            self.unifier,
            lambda source: (self.axes.get(source, ()),),
            lambda asked: shapes if asked is node else (tuple(self.values[asked].shape),),
            lambda source: source.op == "get_attr",
            lambda source: self.values[source] if not isinstance(self.values[source], Tensor) else None,
        )
        found = rule_for(target)
        if found is None:
            return "no rule"
        try:
            effect = found(site).mapped(self.unifier.resolve)
        except NoRule:
            return "no rule"
        said = [tuple(axis.size for axis in axes) for axes in effect.outputs]
        assert said == list(shapes) or not shapes, f"{said} said, {shapes} found"
        return "; ".join(self.parts(effect))

    # -- as text --------------------------------------------------------------------------------------------------

    def text(self, axis: Axis) -> str:
        match axis:
            case Fixed(size=size):
                return str(size)
            case Label(size=size):
                name = next((name for name, label in self.labels.items() if label == axis), "?")
                return f"{name}{size}" + ("!" if self.unifier.frozen(axis) else "")
            case Product(factors=parts):
                return "*".join(f"({self.text(p)})" if isinstance(p, Sum) else self.text(p) for p in parts)
            case Sum(terms=parts):
                return "+".join(map(self.text, parts))

    def texts(self, axes: Axes) -> str:
        return " ".join(map(self.text, axes))

    def parts(self, effect: Effect) -> Iterator[str]:
        yield ", ".join(map(self.texts, effect.outputs)) or "nothing"
        for read in effect.reads:
            around = "".join(
                f" {name} {self.text(x)}" for name, x in (("in", read.outer), ("of", read.inner)) if x.size > 1
            )
            yield f"reads {read.node}.{read.dim} {self.text(read.axis)}{around}"
        for literal in effect.literals:
            size = "-1" if literal.axis is None else self.text(literal.axis)
            yield f"{'.'.join(map(str, literal.path))} is {size}"
        if effect.masked is not None:
            yield f"masked {self.texts(effect.masked.axes)}"
        for fold in effect.folds:
            what = f"{fold.feature}" + ("" if fold.output is None else f"[{fold.output}]")
            yield f"folds {what}.{fold.dim} {self.text(fold.axis)} by {fold.weight}.{fold.weight_dim} + {fold.bias}"
        for name, terms in (("costs", effect.terms), ("extra", effect.extra)):
            for term in terms:
                yield f"{name} {term.factor:.4g} {self.texts(term.axes)}"
        if effect.left:
            yield f"left {self.texts(effect.left)}"
        for name, label in self.labels.items():
            now = self.unifier.resolve(label)
            if now != label:
                yield f"{name} = {self.text(now)}"
            elif self.unifier.frozen(label) is not None:
                yield f"{name}!"
            for part in labels_of(now):
                if (least := self.unifier.lowest(part)) > 1:
                    yield f"{self.text(part)} >= {least}"


def said(target: Any, *args: Any, **kwargs: Any) -> str:
    """The line of one node."""
    return Bench().ask(target, args, kwargs)
