"""Small streaming models, whose states go in and out, and runs of them over several chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups


class GruVad(nn.Module):
    """Features ``[B, T, 12]`` and a state ``[1, B, 10]`` → scores ``[B, T]`` and the next state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.gru, self.out = nn.Linear(12, 8), nn.GRU(8, 10, batch_first=True), nn.Linear(10, 1)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.gru(torch.relu(self.inner(x)), h)
        return self.out(y).squeeze(-1), h


class LstmVad(nn.Module):
    """The same with two states of one shape, which no name tells apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.lstm, self.out = nn.LSTM(12, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (a, b) = self.lstm(x, (a, b))
        return self.out(y), b, a


class Caches(nn.Module):
    """``[B, 6, T]``: two causal convolutions, whose caches come and go in one list; the second one is written in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second, self.out = nn.Conv1d(6, 8, 1), nn.Conv1d(8, 7, 3), nn.Conv1d(7, 3, 2)

    def forward(self, x: Tensor, caches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        whole = torch.cat([caches[0], torch.relu(self.first(x))], 2)
        y = torch.tanh(self.second(whole))
        y = torch.cat([caches[1], y], 2)
        caches[1][:] = y[:, :, -1:]
        return self.out(y), [whole[:, :, -2:], caches[1]]


class Rolling(nn.Module):
    """``[B, T, 8]``: attention over the last frames, four in the cache; keys and values are named alike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.query, self.key, self.value = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(8, 12)
        self.out = nn.Linear(12, 8)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], 3, 4).transpose(1, 2)

    def forward(self, x: Tensor, past_key: Tensor, past_value: Tensor) -> dict[str, Tensor]:
        key = torch.cat([past_key, self.heads(self.key(x))], 2)
        value = torch.cat([past_value, self.heads(self.value(x))], 2)
        y = F.scaled_dot_product_attention(self.heads(self.query(x)), key, value).transpose(1, 2)
        y = x + self.out(y.reshape(x.shape[0], x.shape[1], 12))
        return {"y": y, "present_key": self.kept(key, x), "present_value": self.kept(value, x)}

    def kept(self, cache: Tensor, x: Tensor) -> Tensor:
        return cache[:, :, x.shape[1] :]


class Growing(Rolling):
    """The same over all frames so far: the cache comes back longer."""

    def kept(self, cache: Tensor, x: Tensor) -> Tensor:
        return cache


class Packed(nn.Module):
    """Two states in one tensor ``[B, 4 · 2 + 5]``: the cache of a convolution, and a GRU's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.conv, self.gru = nn.Conv1d(6, 4, 1), nn.Conv1d(4, 9, 3), nn.GRU(9, 5, batch_first=True)
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        cache, h = state[:, :8].view(-1, 4, 2), state[:, 8:].unsqueeze(0)
        whole = torch.cat([cache, self.first(x)], 2)
        y, h = self.gru(torch.relu(self.conv(whole)).transpose(1, 2), h.contiguous())
        return self.out(y), torch.cat([whole[:, :, -2:].reshape(-1, 8), h.squeeze(0)], 1)


class Slots(nn.Module):
    """``[B, T, 6]``: two GRUs, whose states lie in one tensor ``[2, 1, B, 6]`` that is written slot by slot."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.GRU(6, 6, batch_first=True), nn.GRU(6, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        x, slots[0] = self.first(x, slots[0])
        x, slots[1] = self.second(x, slots[1])
        return self.out(x), slots


class Delayed(nn.Module):
    """``[B, 5, T]``: features of the last chunk, which the graph does not tie to those of this one, and traces that fade."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.inner, self.memory, self.out = nn.Linear(5, 7), nn.Linear(7, 4), nn.Linear(7, 4)

    def forward(self, x: Tensor, last: Tensor, traces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = torch.tanh(self.inner(x.mean(2)))
        traces = 0.9 * traces + features.unsqueeze(1)
        return self.memory(last) + self.out(traces.mean(1)), features, traces


EXAMPLES: Mapping[type[nn.Module], Callable[[], tuple[Any, ...]]] = {
    GruVad: lambda: (torch.randn(2, 9, 12), torch.zeros(1, 2, 10)),
    LstmVad: lambda: (torch.randn(2, 9, 12), torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)),
    Caches: lambda: (torch.randn(2, 6, 7), [torch.zeros(2, 8, 2), torch.zeros(2, 7, 1)]),
    Rolling: lambda: (torch.randn(2, 3, 8), torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)),
    Growing: lambda: (torch.randn(2, 3, 8), torch.zeros(2, 3, 5, 4), torch.zeros(2, 3, 5, 4)),
    Packed: lambda: (torch.randn(2, 6, 7), torch.zeros(2, 13)),
    Slots: lambda: (torch.randn(2, 5, 6), torch.zeros(2, 1, 2, 6)),
    Delayed: lambda: (torch.randn(2, 5, 8), torch.zeros(2, 7), torch.zeros(2, 3, 7)),
}


def in_chunks(
    model: Callable[..., Any], captured: Captured, chunks: Sequence[Tensor], states: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What a model returns first for each chunk, its states going round, and the states that are left."""
    outputs = []
    for chunk in chunks:
        leaves, spec = pytree.tree_flatten(captured.example_inputs)
        leaves[0] = chunk
        for state, value in zip(captured.states, states, strict=True):
            leaves[state.input] = value
        with torch.no_grad():
            returned = pytree.tree_leaves(model(*pytree.tree_unflatten(leaves, spec)))
        states = [returned[state.output] for state in captured.states]
        outputs.append(returned[0])
    return outputs, list(states)


def noise(captured: Captured, count: int, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Chunks like the example, and states that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    leaves = pytree.tree_leaves(captured.example_inputs)
    chunks = [torch.randn(leaves[0].shape, generator=generator) for _ in range(count)]
    return chunks, [torch.randn(leaves[state.input].shape, generator=generator) for state in captured.states]


def kept_part(groups: Groups, state: str, value: Tensor, kept: Mapping[str, Sequence[int]]) -> Tensor:
    """The part of a state that remains."""
    for dim, axis in enumerate(groups.axes[state][0]):
        value = value.index_select(dim, torch.tensor(groups.kept_index(axis, kept)))
    return value
