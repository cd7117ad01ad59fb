"""What each operator on complex numbers is in real ones. ONNX has none, and knows few operators on pairs.

A form takes a writer and returns the parts of the node's value, a node where that is real, or None where the operator stays as
it is, between ``view_as_complex`` and ``view_as_real``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx

from shrinkspeech.export.complex_parts import Parts, Writer

aten = torch.ops.aten

Form = Callable[[Writer], Any]
FORMS: dict[Any, Form] = {}


def form(*targets: Any) -> Callable[[Form], Form]:
    """Register the form of some operators; each has one."""

    def register(function: Form) -> Form:
        for target in targets:
            if FORMS.setdefault(target, function) is not function:
                raise ValueError(f"{target} has two forms")
        return function

    return register


def overloads(names: str) -> Iterator[Any]:
    """Every overload of the named operators that torch has and that writes into no ``out=``."""
    for name in names.split():
        packet = getattr(aten, name)
        for overload in (getattr(packet, overload) for overload in packet.overloads()):
            if not any(argument.is_out for argument in overload._schema.arguments):
                yield overload


APART = """
    permute t mT movedim swapaxes unsqueeze squeeze view reshape _unsafe_view flatten unflatten expand clone
    contiguous detach alias lift_fresh_copy resolve_conj resolve_neg slice select narrow index_select index gather
    split split_with_sizes chunk unbind cat stack sum mean neg flip roll repeat where unfold cumsum zeros_like
    new_zeros zeros tril triu
"""


@form(*overloads(APART), operator.getitem)
def apart(w: Writer) -> Parts:
    """Moves and sums: what is done to a complex tensor is done to both of its parts."""
    return Parts(*(_with_part(w, which) for which in ("real", "imaginary")))


@form(aten.transpose.int)
def transpose(w: Writer) -> Parts:
    """Of a pair in one go, where there is one."""
    value, *dims = w.node.args
    pair, rank = w.parts(value).pair, len(w.shape(w.node))
    return apart(w) if pair is None else w.of_pair(w.call(aten.transpose.int, pair, *(dim % rank for dim in dims)))


def _with_part(w: Writer, which: str) -> fx.Node:
    def chosen(value: Any) -> Any:
        if isinstance(value, list | tuple) and any(w.is_complex(x) for x in value):
            return [_in_list(w, x, which) for x in value]
        if isinstance(value, list | tuple):
            return value
        if isinstance(value, torch.dtype):
            return value.to_real()
        return getattr(w.parts(value), which) if w.is_complex(value) else value

    kwargs = {key: chosen(value) for key, value in w.node.kwargs.items()}
    return w.call(w.node.target, *(chosen(value) for value in w.node.args), **kwargs)


def _in_list(w: Writer, value: Any, which: str) -> Any:
    if w.is_complex(value) or which == "real":
        return getattr(w.parts(value), which)
    return w.call(aten.zeros_like.default, value)


@form(aten.pad.default)
def padded(w: Writer) -> Parts | None:
    """With zeros, or with what stands there."""
    return apart(w) if w.arguments()["value"] in (None, 0) else None


@form(aten.masked_fill.Scalar)
def filled(w: Writer) -> Parts | None:
    """A number other than zero is real, and not what the imaginary part is filled with."""
    return apart(w) if w.node.args[2] == 0 else None


@form(aten.add.Tensor)
def add(w: Writer) -> Parts:
    return _sum(w, w.node.args[0], w.node.args[1], 1)


@form(aten.sub.Tensor)
def subtract(w: Writer) -> Parts:
    return _sum(w, w.node.args[0], w.node.args[1], -1)


@form(*overloads("rsub"))
def subtract_from(w: Writer) -> Parts:
    return _sum(w, w.node.args[1], w.node.args[0], -1)


def _sum(w: Writer, first: Any, second: Any, sign: int) -> Parts:
    x, y, scale = w.parts(first), w.parts(second), sign * w.node.kwargs.get("alpha", 1)
    real = w.add(x.real, w.mul(y.real, scale))
    return w.broadcast(w.whole(real, w.add(x.imaginary, w.mul(y.imaginary, scale))))


@form(aten.mul.Tensor)
def multiply(w: Writer) -> Parts:
    return _product(w, *(w.parts(value) for value in w.node.args[:2]))


def _product(w: Writer, x: Parts, y: Parts) -> Parts:
    real = w.sub(w.mul(x.real, y.real), w.mul(x.imaginary, y.imaginary))
    return w.whole(real, w.add(w.mul(x.real, y.imaginary), w.mul(x.imaginary, y.real)))


@form(aten.div.Tensor)
def divide(w: Writer) -> Parts:
    x, y = (w.parts(value) for value in w.node.args[:2])
    if not w.is_complex(w.node.args[1]):
        return w.whole(w.div(x.real, y.real), w.div(x.imaginary, y.real))
    size = w.square(y)
    top = _product(w, x, Parts(y.real, w.neg(y.imaginary)))
    return w.whole(w.div(top.real, size), w.div(top.imaginary, size))


@form(aten.reciprocal.default)
def reciprocal(w: Writer) -> Parts:
    z = w.parts(w.node.args[0])
    size = w.square(z)
    return w.whole(w.div(z.real, size), w.neg(w.div(z.imaginary, size)))


@form(aten.square.default)
def square(w: Writer) -> Parts:
    z = w.parts(w.node.args[0])
    return _product(w, z, z)


@form(aten.pow.Tensor_Scalar)
def power(w: Writer) -> Parts | None:
    return square(w) if w.node.args[1] == 2 else None


@form(aten.exp.default)
def exponential(w: Writer) -> Parts:
    z = w.parts(w.node.args[0])
    return _polar(w, w.call(aten.exp.default, z.real), z.imaginary)


@form(aten.polar.default)
def polar(w: Writer) -> Parts:
    return _polar(w, *w.node.args)


def _polar(w: Writer, size: Any, angle: Any) -> Parts:
    return w.whole(*(w.mul(size, w.call(target, angle)) for target in (aten.cos.default, aten.sin.default)))


@form(*overloads("conj _conj conj_physical"))
def conjugate(w: Writer) -> Parts:
    z = w.parts(w.node.args[0])
    return Parts(z.real, w.neg(z.imaginary))


@form(aten.complex.default)
def complex_of(w: Writer) -> Parts:
    return w.broadcast(Parts(*w.node.args))


@form(aten.view_as_complex.default)
def of_pair(w: Writer) -> Parts:
    return w.of_pair(w.node.args[0])


@form(aten.view_as_real.default)
def as_pair(w: Writer) -> Any:
    return w.pair(w.node.args[0])


@form(aten.real.default)
def real(w: Writer) -> Any:
    return w.parts(w.node.args[0]).real


@form(aten.imag.default)
def imaginary(w: Writer) -> Any:
    return w.parts(w.node.args[0]).imaginary


@form(aten.abs.default)
def size_of(w: Writer) -> Any:
    return w.call(aten.sqrt.default, w.square(w.parts(w.node.args[0])))


@form(aten.angle.default)
def angle(w: Writer) -> Any:
    z = w.parts(w.node.args[0])
    return w.call(aten.atan2.default, z.imaginary, z.real)


@form(aten.sgn.default)
def sign(w: Writer) -> Parts:
    """z / |z|, and 0 where that is 0."""
    z = w.parts(w.node.args[0])
    size = w.call(aten.sqrt.default, w.square(z))
    safe = w.call(aten.add.Tensor, size, w.call(aten.eq.Scalar, size, 0.0))
    return w.whole(w.div(z.real, safe), w.div(z.imaginary, safe))


@form(*overloads("_to_copy to"))
def cast(w: Writer) -> Parts | None:
    """From real to complex numbers of the same precision, or to what they are already."""
    value, wanted = w.node.args[0], w.dtype(w.node)
    if wanted == w.dtype(value):
        return w.parts(value)
    if wanted is not None and wanted.to_real() == w.dtype(value):
        return Parts(value, w.call(aten.zeros_like.default, value))
    return None


@form(aten.sym_size.int)
def size(w: Writer) -> Any:
    return w.call(aten.sym_size.int, w.parts(w.node.args[0]).real, w.node.args[1])
