"""Small models, one table for each family of rules: every registered operator is met in at least one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sample:
    """A model, its inputs, the operators that it is there for, and how many groups may shrink in it."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    operators: tuple[Any, ...]
    min_groups: int = 1
    frozen: tuple[str, ...] = ()
    """Words that the reason of some frozen group must hold."""
    unknown: bool = False
    """Whether the graph holds an operator without a rule."""
    referee: bool = True
    train: bool = True


def randn(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(*shape),)


class Apply(nn.Module):
    """A model from its layers and a function ``forward(module, x)`` or ``forward(module, x, y)``."""

    def __init__(self, forward: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any, y: Any = None) -> Any:
        return self._forward(self, x) if y is None else self._forward(self, x, y)


def apply(forward: Callable[..., Any], **layers: Callable[[], Any]) -> Callable[[], nn.Module]:
    """A factory of ``Apply``: each layer is made anew, in the order given."""
    return lambda: Apply(forward, **{name: make() for name, make in layers.items()})


def chain(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A factory of layers one after the other."""
    return lambda: nn.Sequential(*(layer() for layer in layers))


def linear(inputs: int, outputs: int, bias: bool = True) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(inputs, outputs, bias=bias)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv1d(inputs, outputs, kernel, **options)


def conv2(inputs: int, outputs: int, kernel: Any = 3, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(inputs, outputs, kernel, **options)


def tensor(*shape: int, scale: float = 0.3) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(torch.randn(*shape) * scale + 1.0)
