"""The competing methods of the quality benchmark, on a small residual net with depthwise convolutions and made-up data."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.quality.peers import METHODS, TORCH_PRUNING, Unsupported, flops
from benchmarks.quality.peers.scratch import reset

NEEDED = {**dict.fromkeys(TORCH_PRUNING, "torch_pruning"), "fastnas": "modelopt"}
TARGET = 0.4

# the packages of others warn about themselves and about what torch has deprecated since
pytestmark = pytest.mark.filterwarnings("ignore")


class Block(nn.Module):
    """[B, C, T] -> the same shape, through a wider depthwise convolution."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, hidden, 1, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, channels, 1, bias=False),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Net(nn.Module):
    """[B, 4, T] -> logits [B, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(4, 12, 5, padding=2, bias=False), nn.BatchNorm1d(12), nn.ReLU())
        self.block = Block(12, 20)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean(2))


class Recurrent(nn.Module):
    """[B, T, 6] -> [B, T, 2], with nothing to prune but a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


def recipe_of(*shape: int) -> Any:
    """A recipe with noise and random labels."""

    def train_batches(seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield torch.randn(8, *shape, generator=generator), torch.randint(0, 2, (8,), generator=generator)

    def loss(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs.reshape(8, -1)[:, :3], batch[1])

    return SimpleNamespace(
        train_batches=train_batches, loss=loss, example_inputs=lambda: (torch.ones(2, *shape),), SECONDS=0.2
    )


def original() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def full() -> float:
    """FLOP/s of the original."""
    return flops(original(), recipe_of(4, 20))


@pytest.mark.parametrize("method", METHODS)
def test_method_stays_within_target_and_trains(method: str, full: float) -> None:
    package = NEEDED.get(method)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the package {package}")
    model, recipe = original(), recipe_of(4, 20)
    before = [p.clone() for p in model.parameters()]
    small = METHODS[method](model, recipe, TARGET, 10, 1e-3, 0)
    share = flops(small, recipe) / full
    assert 0.7 * TARGET < share <= TARGET
    assert not small.training
    x = torch.randn(5, 4, 20)
    assert small(x).shape == (5, 3)
    assert not torch.allclose(small(x), model(x))
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))


def test_what_cannot_be_pruned_is_refused() -> None:
    pytest.importorskip("torch_pruning", reason="needs the package torch_pruning")
    torch.manual_seed(0)
    with pytest.raises(Unsupported, match=r"no group|stops at"):
        METHODS["tp-uniform-l2"](Recurrent().eval(), recipe_of(10, 6), TARGET, 4, 1e-3, 0)


def test_the_gist_of_a_long_message_is_its_last_line_and_its_bounds() -> None:
    from benchmarks.quality.peers.fastnas import _gist

    message = "Profiling\n\n│ flops        │ 17.61M       │ 21.09M       │ 24.96M       │ 1.42 │\n└───┘\nNOT all, see above!\n"
    assert _gist(message) == "NOT all (from 17.61M to 24.96M FLOP/s)"
    assert _gist("one\ntwo") == "two"
    assert _gist("") == ""


def test_reset_begins_as_torch_does() -> None:
    """Statistics of fresh weights are those of a fresh module of the same shape."""
    torch.manual_seed(0)
    fresh = nn.Sequential(nn.Linear(64, 64), nn.GRU(64, 32), nn.BatchNorm1d(8))
    used = nn.Sequential(nn.Linear(64, 64), nn.GRU(64, 32), nn.BatchNorm1d(8))
    for parameter in used.parameters():
        nn.init.constant_(parameter, 7.0)
    used[2].running_mean.fill_(3.0)
    reset(used, fresh)
    for a, b in zip(
        itertools.chain(used.parameters(), used.buffers()),
        itertools.chain(fresh.parameters(), fresh.buffers()),
        strict=True,
    ):
        assert abs(float(a.float().abs().max()) - float(b.float().abs().max())) < 0.02
