"""The order of selection, on features whose gains can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.selection import selection


class Readers(nn.Module):
    """Features that a diagonal makes of the inputs, and one or two matrices that read them, each with an output of its own."""

    def __init__(
        self, scales: Sequence[float], *readers: Sequence[Sequence[float]], bias: Sequence[float] = ()
    ) -> None:
        super().__init__()
        size = len(scales)
        self.inside = nn.Linear(size, size)
        self.readers = nn.ModuleList(nn.Linear(size, len(rows), bias=False) for rows in readers)
        with torch.no_grad():
            self.inside.weight.copy_(torch.diag(torch.tensor(scales)))
            self.inside.bias.copy_(torch.tensor(list(bias) or [0.0] * size))
            for reader, rows in zip(self.readers, readers, strict=True):
                reader.weight.copy_(torch.tensor(rows))  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden = self.inside(x)
        return [reader(hidden) for reader in self.readers]


def independent(size: int) -> Tensor:
    """Inputs of mean 0 and variance 1 without any correlation: ``[2^size, size]``."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * size)
    return signs.reshape(-1, size)


def summed(model: Any, x: Tensor) -> Tensor:
    """Every output is felt alike, 1 in each place."""
    return torch.stack([out.sum() for out in model(x)]).sum()


def scores(model: nn.Module, batches: Sequence[Tensor], loss: Any = summed) -> list[float]:
    captured = shrinkspeech.capture(model.eval(), (batches[0],))
    groups = shrinkspeech.label(captured)
    [found] = selection(captured, groups, batches, lambda batch: (batch,), loss).values()
    return found.tolist()


def test_variance_times_square_weight_decides() -> None:
    """Gains 1·4, 9·1, 0.25·9, 4·4: the scores count down from the size."""
    model = Readers([1.0, 3.0, 0.5, 2.0], [[2.0, -1.0, 3.0, -2.0]])
    assert scores(model, [independent(4)]) == [2.0, 3.0, 1.0, 4.0]


def test_all_rows_of_all_readers_count() -> None:
    """Unit 0: 1 + 1 + 1; unit 1: 2² alone; unit 2: 1.5² + 1.2²."""
    first, second = [[1.0, 2.0, 1.5], [1.0, 0.0, 0.0]], [[1.0, 0.0, 1.2]]
    model = Readers([1.0, 1.0, 1.0], first, second)
    assert scores(model, [independent(3)]) == [1.0, 3.0, 2.0]


def test_what_the_loss_feels_weighs_the_rows() -> None:
    """The gradient is 3 at the first output and 1 at the second: gains 9·1 and 1·4."""
    model = Readers([1.0, 1.0], [[1.0, 0.0], [0.0, 2.0]])
    assert scores(model, [independent(2)]) == [1.0, 2.0]
    assert scores(model, [independent(2)], lambda m, x: (m(x)[0] * torch.tensor([3.0, 1.0])).sum()) == [2.0, 1.0]


def test_gradients_are_squared_before_they_are_summed() -> None:
    """At the first output they cancel over the places, at the second they do not; they are as large."""
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0])
    model = Readers([1.0, 1.0], [[1.1, 0.0], [0.0, 1.0]])

    def loss(model: Any, x: Tensor) -> Tensor:
        out = model(x)[0]
        return (out[:, 0] * sign).sum() + out[:, 1].sum()

    assert scores(model, [independent(2)], loss) == [2.0, 1.0]


def test_a_constant_tells_nothing() -> None:
    """Unit 0 is large and never changes, as its bias; folding puts it into the bias of its reader."""
    model = Readers([0.0, 1.0, 0.5], [[5.0, 1.0, 1.0]], bias=[100.0, 0.0, 0.0])
    assert scores(model, [independent(3)]) == [1.0, 3.0, 2.0]


def test_means_over_all_batches_are_taken_off() -> None:
    """Unit 0 has variance 1 within each batch and another mean in each of the two: 1 + 4 in all, against 3 for unit 1."""
    x = independent(2)
    shift = torch.tensor([2.0, 0.0])
    model = Readers([1.0, 3.0**0.5], [[1.0, 1.0]])
    assert scores(model, [x + shift, x - shift]) == [2.0, 1.0]
    assert scores(model, [x + shift, x + shift]) == [1.0, 2.0]


class Mixed(nn.Module):
    """Features ``x @ mixing``, read by one row of ones."""

    def __init__(self, mixing: Sequence[Sequence[float]], weights: Sequence[float]) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(len(mixing[0]), len(mixing), bias=False), nn.Linear(len(mixing), 1)
        with torch.no_grad():
            self.inside.weight.copy_(torch.tensor(mixing))
            self.out.weight.copy_(torch.tensor([list(weights)]))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.out(self.inside(x))]


def test_each_choice_takes_into_account_the_ones_before() -> None:
    """Features p, 0.9 p + q, r with weights 3, 1, 0.5; the output is 3.9 p + q + 0.5 r.

    First gains: p tells 3.9² = 15.21; 0.9 p + q tells (3.51 + 1)²/1.81 = 11.24; r 0.25. Given p: q is left, 1, and r 0.25.
    """
    model = Mixed([[1.0, 0.0, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]], [3.0, 1.0, 0.5])
    assert scores(model, [independent(3)]) == [3.0, 2.0, 1.0]
    less = Mixed([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]], [3.0, 1.0, 0.5])
    assert scores(less, [independent(3)]) == [3.0, 1.0, 2.0]


def test_features_that_work_against_each_other_tell_little() -> None:
    """p and −p are read with the same weight: the output does not hold p at all, so unit 2 goes first into what is kept."""
    model = Mixed([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [2.0, 2.0, 0.1])
    assert scores(model, [independent(2)])[2] == 3.0


def test_units_without_gain_come_last_in_their_own_order() -> None:
    model = Readers([1.0, 1.0, 1.0, 1.0], [[0.0, 1.0, 0.0, 0.0]])
    assert scores(model, [independent(4)]) == [3.0, 4.0, 2.0, 1.0]


class Conv(nn.Module):
    """Channels that are the inputs, scaled, read by a convolution of several taps: ``[B, C, T]``."""

    def __init__(self, scales: Sequence[float], taps: Sequence[Sequence[Sequence[float]]]) -> None:
        super().__init__()
        size, kernel = len(scales), torch.tensor(taps)
        self.inside = nn.Conv1d(size, size, 1, bias=False)
        self.out = nn.Conv1d(size, len(taps), kernel.shape[-1], bias=False)
        with torch.no_grad():
            self.inside.weight.copy_(torch.diag(torch.tensor(scales))[..., None])
            self.out.weight.copy_(kernel)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.out(self.inside(x))]


@pytest.mark.parametrize(("felt", "wanted"), [([1.0, 1.0], [1.0, 2.0]), ([2.0, 1.0], [2.0, 1.0])])
def test_convolutions_by_channel_and_tap(felt: list[float], wanted: list[float]) -> None:
    """Unit 0: 1 + 1 in the first output channel; unit 1: 1.5² + 0.5² in the second."""
    model = Conv([1.0, 1.0], [[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.5, 0.5]]])
    x = independent(2).T.repeat(1, 5)[None]
    weights = torch.tensor(felt)[:, None]
    assert scores(model, [x, x], lambda m, batch: (m(batch)[0] * weights).sum()) == wanted


class Viewed(nn.Module):
    """Each of three channels stands at two places of what the matrix reads."""

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv1d(3, 3, 1, bias=False), nn.Linear(6, 1, bias=False)
        with torch.no_grad():
            self.inside.weight.copy_(torch.eye(3)[..., None])
            self.out.weight.copy_(torch.tensor([list(weights)]))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.out(self.inside(x).flatten(1))]


def test_a_unit_at_several_places_gains_at_all_of_them() -> None:
    """Unit 0: 1 + 1; unit 1: 1.2²; unit 2: 0 + 1.5²."""
    x = independent(6).reshape(-1, 3, 2)
    assert scores(Viewed([1.0, 1.0, 1.2, 0.0, 0.0, 1.5]), [x]) == [2.0, 1.0, 3.0]


@pytest.mark.parametrize("sequential", [4, 1])
def test_positions_known_together_or_one_after_the_other_leave_the_same(
    sequential: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shrinkspeech.fitting.selection.SEQUENTIAL", sequential)
    torch.manual_seed(0)
    mixing = torch.randn(6, 6)
    x = (torch.randn(500, 6) @ mixing).reshape(-1, 3, 2)
    weights = [1.0, -0.4, 1.1, 0.3, -0.9, 0.8]
    assert scores(Viewed(weights), [x]) == best_by_hand(x.reshape(-1, 6), torch.tensor(weights), 2)


def best_by_hand(x: Tensor, weights: Tensor, places: int) -> list[float]:
    """Greedy: the unit whose positions, one by one, would lower the error of the output most."""
    left, kept, size = list(range(x.shape[1] // places)), [], x.shape[1] // places
    found = [0.0] * size
    x = (x - x.mean(0)).double()
    while left:
        columns = [place for unit in kept for place in range(unit * places, (unit + 1) * places)]
        rest = x
        if columns:
            rest = x - x[:, columns] @ torch.linalg.lstsq(x[:, columns], x).solution
        error = rest @ weights.double()
        gain = {
            unit: sum(
                float((error @ rest[:, place]) ** 2 / rest[:, place].square().sum())
                for place in range(unit * places, (unit + 1) * places)
            )
            for unit in left
        }
        best = max(gain, key=gain.__getitem__)
        found[best] = float(len(left))
        left.remove(best)
        kept.append(best)
    return found


def test_inputs_that_are_numbers_of_rows_have_no_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 2)).eval()
    tokens = torch.randint(0, 9, (2, 5))
    captured = shrinkspeech.capture(model, (tokens,))
    loss = lambda found, batch: found(batch).square().mean()  # noqa: E731
    scores = selection(captured, shrinkspeech.label(captured), [tokens], lambda batch: (batch,), loss)
    assert sorted(scores["1"].tolist()) == [1, 2, 3, 4, 5, 6]
