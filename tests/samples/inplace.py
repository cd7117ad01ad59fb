"""In-place operators, beside views of the tensor that they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from samples import linear
from samples.shapes import A, sample

aten = torch.ops.aten


def in_place(m: Any, x: Tensor) -> Tensor:
    """In-place operators on tensors that are read through views made before and after."""
    y = m.a(x)
    seen = y.transpose(1, 2)
    y.add_(m.c(x)).mul_(0.5)
    y.relu_()
    return m.b(seen.transpose(1, 2)) + m.b(y)


def read_twice(m: Any, x: Tensor) -> Tensor:
    """A tensor that is read, then changed in place, then read again through another name."""
    y = m.a(x)
    seen = y.view(y.shape)
    first = m.b(seen.detach().clone()) + m.b(y)
    with torch.no_grad():
        y.add_(1.0)
    return first + m.b(seen)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "mT": lambda y: y.mT,
    "movedim": lambda y: y.movedim(1, 2),
    "movedims": lambda y: y.movedim((1, 2), (2, 1)),
    "swapaxes": lambda y: y.swapaxes(1, 2),
    "expand_as": lambda y: y.expand_as(y).transpose(1, 2),
    "reshape_as": lambda y: y.reshape_as(y).transpose(1, 2),
    "broadcast_to": lambda y: y.broadcast_to(y.shape).transpose(1, 2),
    "positive": lambda y: y.positive().transpose(1, 2),
    "type_as": lambda y: y.type_as(y).transpose(1, 2),
    "unfold": lambda y: y.unfold(1, 1, 1)[..., 0].transpose(1, 2),
    "dropout": lambda y: F.dropout(y, 0.5, False).transpose(1, 2),
    "feature_dropout": lambda y: F.dropout1d(y, 0.5, False).transpose(1, 2),
    "alpha_dropout": lambda y: F.alpha_dropout(y, 0.5, False).transpose(1, 2),
    "split_list": lambda y: torch.cat(y.split([5, 7], -1), -1).transpose(1, 2),
    "real": lambda y: torch.real(y).transpose(1, 2),
    "resolve_conj": lambda y: y.resolve_conj().resolve_neg().transpose(1, 2),
    "contiguous": lambda y: y.contiguous().transpose(1, 2),
}


def changed(view: Callable[[Tensor], Tensor]) -> Any:
    """A view is made, the tensor changed in place, and the view is read."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        seen = view(y)
        y.add_(1.0)
        return m.b(seen.transpose(1, 2).tanh())

    return forward


def compared(m: Any, x: Tensor) -> Tensor:
    """In place, comparisons and wider operands keep the number type."""
    y = m.a(x)
    y.add_(m.c(x).double())
    return m.b(1.0 - y.gt_(0.1))


SAMPLES = [
    sample("in_place", in_place, (aten.relu_.default, aten.add_.Tensor), layers=A | {"c": linear(6, 12)}),
    *(sample(f"changed_{name}", changed(view), (), 1, layers=A, train=False) for name, view in VIEWS.items()),
    sample("compared", compared, (aten.gt_.Scalar, aten.add_.Tensor), 1, layers=A | {"c": linear(6, 12)}),
    sample("read_twice", read_twice, aten.add_.Tensor, layers=A, train=False),
]
