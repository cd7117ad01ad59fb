"""The zoo: small, randomly initialised forms of published speech models, to see what can be captured and shrunk.

Each entry is a factory of a model and of its example inputs. Importing ``zoo.everything`` registers them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Entry:
    """One model: where its code comes from, how it is made, what it is fed, and how much audio that is (s)."""

    name: str
    source: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    seconds: float


ENTRIES: dict[str, Entry] = {}


def entry(
    name: str, source: str, inputs: Callable[[], Inputs], seconds: float = 1.0
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a factory. A second entry of one name raises."""

    def register(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        if name in ENTRIES:
            raise ValueError(f"there is a model '{name}' already")
        ENTRIES[name] = Entry(name, source, make, inputs, seconds)
        return make

    return register


def noise(*shape: int, scale: float = 0.1) -> Callable[[], Inputs]:
    """Gaussian noise of one shape, the same each time."""
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale,)


class Output(nn.Module):
    """A model that returns one field of the record which another returns."""

    def __init__(self, model: nn.Module, field: str | int, keyword: str = "", **options: object) -> None:
        super().__init__()
        self.model, self.field, self.keyword, self.options = model, field, keyword, options

    def forward(self, x: Tensor) -> Tensor:
        result = self.model(**{self.keyword: x}, **self.options) if self.keyword else self.model(x, **self.options)
        return result[self.field] if isinstance(self.field, int) else getattr(result, self.field)
