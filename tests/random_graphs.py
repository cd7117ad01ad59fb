"""Random speech-like graphs: a front end, some steps on ``[B, C, T]``, and a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES, BANDS, FRAMES = 6, 4, 8
Step = tuple[str, int, int]


class Block(nn.Module):
    """One step on ``[B, C, T]``; ``outputs`` is the number of channels that it leaves."""

    def __init__(self, inputs: int, outputs: int, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.outputs, self._forward, self.inputs = outputs, forward, inputs
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def plain(c: int, a: int, b: int) -> Block:
    out = 4 + a
    layer = nn.Conv1d(c, out, 1 + 2 * (b % 2), padding=b % 2)
    return Block(c, out, lambda m, x: m.f(x).tanh(), f=layer)


def grouped(c: int, a: int, b: int) -> Block:
    count = [g for g in (1, 2, 3, 4, c) if c % g == 0][a % 5 % len([g for g in (1, 2, 3, 4, c) if c % g == 0])]
    return Block(
        c, count * (1 + b % 3), lambda m, x: m.f(x), f=nn.Conv1d(c, count * (1 + b % 3), 3, padding=1, groups=count)
    )


def normed(c: int, a: int, b: int) -> Block:
    count = [g for g in (1, 2, 3, c) if c % g == 0][-1 - b % 2]
    kinds = [
        nn.BatchNorm1d(c),
        nn.GroupNorm(count, c),
        nn.InstanceNorm1d(c, affine=True),
        nn.LayerNorm(c),
        nn.RMSNorm(c),
    ]
    norm = kinds[a % 5]
    over_channels = isinstance(norm, nn.LayerNorm | nn.RMSNorm)
    return Block(c, c, lambda m, x: m.f(x.mT).mT if over_channels else m.f(x), f=norm)


def residual(c: int, a: int, b: int) -> Block:
    inner = nn.Conv1d(c, 3 + a, 3, padding=1)
    return Block(c, c, lambda m, x: x + m.g(m.f(x).relu()), f=inner, g=nn.Conv1d(3 + a, c, 1))


def branches(c: int, a: int, b: int) -> Block:
    """Concatenation of two branches, one of which is what came in where ``b`` says so."""
    layers = {"f": nn.Conv1d(c, 2 + a, 1), "g": nn.Conv1d(c, c, 3, padding=1)}
    return Block(c, c + 2 + a, lambda m, x: torch.cat([m.f(x), x if b % 2 else m.g(x)], 1), **layers)


def gated(c: int, a: int, b: int) -> Block:
    out = 3 + a
    layer = nn.Conv1d(c, 2 * out, 1)

    def halves(m: Any, x: Tensor) -> Tensor:
        first, second = m.f(x).chunk(2, 1)
        return first.tanh() * second.sigmoid()

    return Block(c, out, halves if b % 2 else lambda m, x: F.glu(m.f(x), 1), f=layer)


def chunked(c: int, a: int, b: int) -> Block:
    """Parts of the channels are treated apart and joined in another order; the sizes may be uneven."""
    size = 1 + a % max(1, c - 1)

    def forward(m: Any, x: Tensor) -> Tensor:
        parts = list(x.split(size, 1))
        parts[0] = parts[0].relu()
        return torch.cat(parts[::-1] if b % 2 else parts, 1)

    return Block(c, c, forward)


def sliced(c: int, a: int, b: int) -> Block:
    start = a % c
    return Block(c, c - start, lambda m, x: x[:, start:] if b % 2 else x.narrow(1, 0, c - start))


def shuffled(c: int, a: int, b: int) -> Block:
    """Channel shuffle by view and transpose."""
    count = [g for g in (1, 2, 3, 4) if c % g == 0][-1]
    return Block(c, c, lambda m, x: x.unflatten(1, (count, c // count)).transpose(1, 2).flatten(1, 2))


def attended(c: int, a: int, b: int) -> Block:
    heads, dim = 1 + a % 3, 2 + b % 3
    layers = {"qkv": nn.Linear(c, 3 * heads * dim), "o": nn.Linear(heads * dim, c)}

    def forward(m: Any, x: Tensor) -> Tensor:
        y = (
            m.qkv(x.mT).unflatten(-1, (3, heads, dim))
            if b % 2
            else torch.stack(m.qkv(x.mT).chunk(3, -1), 2).unflatten(-1, (heads, dim))
        )
        q, k, v = y.permute(2, 0, 3, 1, 4).unbind(0)
        return x + m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mT

    return Block(c, c, forward, **layers)


def recurrent(c: int, a: int, b: int) -> Block:
    kind = (nn.GRU, nn.LSTM)[b % 2]
    layer = kind(c, 3 + a, num_layers=1 + a % 2, bidirectional=b % 3 == 0, batch_first=True)
    return Block(c, (3 + a) * (2 if b % 3 == 0 else 1), lambda m, x: m.f(x.mT)[0].mT, f=layer)


def excited(c: int, a: int, b: int) -> Block:
    layers = {"f": nn.Linear(c, 2 + a), "g": nn.Linear(2 + a, c)}
    return Block(c, c, lambda m, x: x * m.g(m.f(x.mean(-1)).relu()).sigmoid().unsqueeze(-1), **layers)


def weighed(c: int, a: int, b: int) -> Block:
    """Softmax, mean or deviation over the channels."""
    kinds: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.softmax(1),
        lambda x: x - x.mean(1, keepdim=True),
        lambda x: x * x.amax(1, keepdim=True),
        lambda x: F.pad(x, (0, 0, 1, 2)),
        lambda x: x.repeat(1, 2, 1),
    ]
    return Block(c, (c, c, c, c + 3, 2 * c)[a % 5], lambda m, x: kinds[a % 5](x))


STEPS: dict[str, Callable[[int, int, int], Block]] = {
    step.__name__: step
    for step in (
        plain,
        grouped,
        normed,
        residual,
        branches,
        gated,
        chunked,
        sliced,
        shuffled,
        attended,
        recurrent,
        excited,
        weighed,
    )
}
FRONTS = ("conv1d", "conv2d", "framed")
HEADS = ("frames", "mean", "statistics", "last")


class Net(nn.Module):
    """Front end, steps (by name in ``table``), head."""

    def __init__(
        self, front: str, steps: list[Step], head: str, table: Mapping[str, Callable[[int, int, int], Block]] = STEPS
    ) -> None:
        super().__init__()
        self.front, self.head = front, head
        if front == "conv2d":
            self.first, channels = nn.Conv2d(1, 4, 3, padding=1), 4 * BANDS
        else:
            self.first, channels = nn.Conv1d(FEATURES, 8, 3, padding=1), 8
        self.steps = nn.ModuleList()
        for name, a, b in steps:
            block = table[name](channels, a, b)
            channels = block.outputs
            self.steps.append(block)
        self.last = nn.Linear(channels * (2 if head == "statistics" else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.front == "conv2d":
            y = y.relu().permute(0, 3, 1, 2).reshape(x.shape[0], x.shape[-1], -1).mT
        elif self.front == "framed":
            y = y.mT.reshape(-1, 8).tanh().view(x.shape[0], x.shape[-1], 8).mT
        for step in self.steps:
            y = step(y)
        if self.head == "frames":
            return self.last(y.mT)
        if self.head == "statistics":
            return self.last(torch.cat([y.mean(-1), y.var(-1).add(1e-3).sqrt()], 1))
        return self.last(y.mean(-1) if self.head == "mean" else y[..., -1])


step = st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 5), st.integers(0, 5))
