"""Folding, against regressions made by hand: weights, biases, which matrices, and what moments are made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery import fold as folding
from shrinkspeech.surgery.fold import collect, fold, key

RIDGE = 1e-3
"""Of the mean variance of the kept features."""


def twins(inputs: int = 1) -> nn.Linear:
    """Features x, 2x + 3 of one input."""
    layer = nn.Linear(inputs, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [2.0]]))
        layer.bias.copy_(torch.tensor([0.0, 3.0]))
    return layer


def folded(model: nn.Module, *inputs: Tensor, kept: list[int] | None = None) -> tuple[Captured, Captured]:
    """The captured model, and the one into which all units of its first group but ``kept`` are folded."""
    captured = shrinkspeech.capture(model.eval(), inputs)
    groups = shrinkspeech.label(captured)
    name = groups.shrinkable[0].name
    return captured, fold(captured, groups, {name: [0] if kept is None else kept}, [inputs])


def share(x: Tensor, with_bias: bool = True) -> tuple[float, float]:
    """M and b of 2x + 3 ≈ M x + b, with the ridge."""
    if not with_bias:
        second, cross = float(x.square().mean()), float((x * (2 * x + 3)).mean())
        return cross / (second * (1 + RIDGE)), 0.0
    slope = 2.0 / (1 + RIDGE)
    return slope, float((2 * x + 3).mean() - slope * x.mean())


def test_a_linear_by_hand() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(twins(), nn.Linear(2, 3)), torch.randn(40, 1) + 0.5
    captured, small = folded(model, x)
    slope, offset = share(x.double())
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    assert torch.allclose(small.parameters()["1.weight"][:, 0], weight[:, 0] + slope * weight[:, 1], atol=1e-6)
    assert torch.allclose(small.parameters()["1.bias"], bias + offset * weight[:, 1], atol=1e-5)
    assert torch.equal(small.parameters()["0.weight"], captured.parameters()["0.weight"])
    assert torch.equal(captured.parameters()["1.weight"], weight)


def test_a_linear_without_a_bias_by_hand() -> None:
    """The regression has no constant then."""
    torch.manual_seed(0)
    model, x = nn.Sequential(twins(), nn.Linear(2, 3, bias=False)), torch.randn(40, 1) + 0.5
    _, small = folded(model, x)
    slope, _ = share(x.double(), with_bias=False)
    weight = model[1].weight.detach()
    assert torch.allclose(small.parameters()["1.weight"][:, 0], weight[:, 0] + slope * weight[:, 1], atol=1e-6)


class Spread(nn.Module):
    """Features over time, which a convolution reads: ``[B, T, 1] → [B, 3, T − 2]``."""

    def __init__(self, planes: bool) -> None:
        super().__init__()
        self.planes = planes
        self.inside = twins()
        self.conv = nn.Conv2d(2, 3, (3, 1)) if planes else nn.Conv1d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inside(x).transpose(1, 2)
        return self.conv(hidden.unsqueeze(-1) if self.planes else hidden)


@pytest.mark.parametrize("planes", [False, True])
def test_a_convolution_by_hand(planes: bool) -> None:
    """Every tap is folded alike, and the bias gets the constant once for each tap."""
    torch.manual_seed(0)
    model, x = Spread(planes), torch.randn(4, 30, 1) + 0.5
    _, small = folded(model, x)
    slope, offset = share(x.double())
    weight, bias = model.conv.weight.detach().flatten(2), model.conv.bias
    assert bias is not None
    found = small.parameters()["conv.weight"]
    assert found.shape == model.conv.weight.shape
    assert torch.allclose(found.flatten(2)[:, 0], weight[:, 0] + slope * weight[:, 1], atol=1e-6)
    assert torch.allclose(small.parameters()["conv.bias"], bias + offset * weight[:, 1].sum(1), atol=1e-5)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], bias: bool = True) -> None:
        super().__init__()
        self.inside, self.layer = twins(), kind(2, 4, batch_first=True, bias=bias)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.inside(x))[0])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_the_input_of_a_recurrent_layer_by_hand(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    model, x = Recurrent(kind), torch.randn(4, 9, 1) + 0.5
    captured, small = folded(model, x)
    slope, offset = share(x.double())
    before, after = captured.parameters(), small.parameters()
    weight, bias = before["layer.weight_ih_l0"], before["layer.bias_ih_l0"]
    assert torch.allclose(after["layer.weight_ih_l0"][:, 0], weight[:, 0] + slope * weight[:, 1], atol=1e-6)
    assert torch.allclose(after["layer.bias_ih_l0"], bias + offset * weight[:, 1], atol=1e-5)
    assert torch.equal(after["layer.weight_hh_l0"], before["layer.weight_hh_l0"])


def test_a_recurrent_layer_without_biases() -> None:
    torch.manual_seed(0)
    model, x = Recurrent(nn.GRU, bias=False), torch.randn(4, 9, 1) + 0.5
    captured, small = folded(model, x)
    slope, _ = share(x.double(), with_bias=False)
    weight = captured.parameters()["layer.weight_ih_l0"]
    assert torch.allclose(
        small.parameters()["layer.weight_ih_l0"][:, 0], weight[:, 0] + slope * weight[:, 1], atol=1e-6
    )


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_the_state_of_a_recurrent_layer_is_folded_by_its_own_output(kind: type[nn.RNNBase]) -> None:
    """The units of the layer: what the next layer reads and ``weight_hh`` alike, each with its own bias."""
    torch.manual_seed(0)
    model, x = Recurrent(kind), torch.randn(6, 20, 1) + 0.5
    captured = shrinkspeech.capture(model.eval(), (x,))
    groups, kept = shrinkspeech.label(captured), [0, 2, 3]
    after = fold(captured, groups, {"layer": kept}, [(x,)]).parameters()
    with torch.no_grad():
        h = model.layer(model.inside(x))[0].reshape(-1, 4).double()
    before = captured.parameters()
    centred = h - h.mean(0)
    inner = centred[:, kept].T @ centred[:, kept] / len(h)
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(3).double()
    slope = torch.linalg.solve(inner + ridge, centred[:, kept].T @ centred[:, 1] / len(h))
    offset = h[:, 1].mean() - slope @ h[:, kept].mean(0)
    for name, bias in (("layer.weight_hh_l0", "layer.bias_hh_l0"), ("out.weight", "out.bias")):
        weight = before[name].double()
        assert torch.allclose(
            after[name][:, kept].double(), weight[:, kept] + torch.outer(weight[:, 1], slope), atol=1e-5
        )
        assert torch.allclose(after[bias].double(), before[bias].double() + offset * weight[:, 1], atol=1e-5)
    assert torch.equal(after["layer.bias_ih_l0"], before["layer.bias_ih_l0"])


class Stepped(nn.Module):
    """One step of a cell on features of one input."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.inside, self.cell, self.out = twins(), kind(2, 3), nn.Linear(3, 2)  # type: ignore[call-arg]

    def forward(self, x: Tensor) -> Tensor:
        state = self.cell(self.inside(x))
        return self.out(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_the_input_of_a_cell_by_hand(kind: type[nn.RNNCellBase]) -> None:
    torch.manual_seed(0)
    model, x = Stepped(kind), torch.randn(40, 1) + 0.5
    captured, small = folded(model, x)
    slope, offset = share(x.double())
    before, after = captured.parameters(), small.parameters()
    weight, bias = before["cell.weight_ih"], before["cell.bias_ih"]
    assert torch.allclose(after["cell.weight_ih"][:, 0], weight[:, 0] + slope * weight[:, 1], atol=1e-6)
    assert torch.allclose(after["cell.bias_ih"], bias + offset * weight[:, 1], atol=1e-5)


class Twice(nn.Module):
    """A matrix that reads two features of the same group, or each of two matrices one."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.inside, self.first = twins(), nn.Linear(2, 3)
        self.second = self.first if shared else nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inside(x)
        return self.first(hidden) + self.second(-hidden)


@pytest.mark.parametrize("shared", [False, True])
def test_a_matrix_that_is_used_twice_is_left_alone(shared: bool) -> None:
    """What is right for one feature is wrong for the other."""
    torch.manual_seed(0)
    captured, small = folded(Twice(shared), torch.randn(40, 1))
    same = torch.equal(captured.parameters()["second.weight"], small.parameters()["second.weight"])
    assert same == shared


def test_wide_axes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(twins(), nn.Linear(2, 3)), torch.randn(40, 1)
    for limit, touched in ((2, True), (1, False)):
        monkeypatch.setattr(folding, "LARGEST", limit)
        captured, small = folded(model, x)
        assert torch.equal(captured.parameters()["1.weight"], small.parameters()["1.weight"]) != touched


def test_a_feature_that_never_changes_takes_the_constant_alone() -> None:
    """No variance among the kept: M is 0 and b is the mean."""
    model, x = nn.Sequential(twins(), nn.Linear(2, 3)), torch.randn(40, 1)
    with torch.no_grad():
        model[0].weight[0] = 0.0
    _, small = folded(model, x)
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    assert torch.allclose(small.parameters()["1.weight"][:, 0], weight[:, 0], atol=1e-4)
    assert torch.allclose(small.parameters()["1.bias"], bias + (2 * x + 3).mean() * weight[:, 1], atol=1e-4)


def test_units_that_are_kept_apart_are_regressed_on_the_right_ones() -> None:
    """Kept are units 1 and 3 of four; the others are sums of them."""
    torch.manual_seed(0)
    inside, x = nn.Linear(2, 4, bias=False), torch.randn(4000, 2)
    with torch.no_grad():
        inside.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0], [3.0, -1.0], [0.0, 1.0]]))
    model = nn.Sequential(inside, nn.Linear(4, 3))
    _, small = folded(model, x, kept=[1, 3])
    weight = model[1].weight.detach()
    wanted = torch.stack(
        [weight[:, 1] + weight[:, 0] + 3 * weight[:, 2], weight[:, 3] + weight[:, 0] - weight[:, 2]], 1
    )
    assert torch.allclose(small.parameters()["1.weight"][:, [1, 3]], wanted, atol=1e-2)


def moments(x: list[Tensor]) -> Any:
    """Moments of the features that the second layer reads."""
    captured = shrinkspeech.capture(nn.Sequential(twins(), nn.Linear(2, 3)).eval(), (x[0],))
    [item] = [found for effect in shrinkspeech.label(captured).effects.values() for found in effect.folds][-1:]
    return collect(captured, [item], [(batch,) for batch in x])[key(item)]


def features(x: Tensor) -> Tensor:
    return torch.cat([x, 2 * x + 3], -1).reshape(-1, 2).double()


def test_moments_are_sums_over_all_batches_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(5, 7, 1), torch.randn(3, 4, 1)]
    rows = torch.cat([features(batch) for batch in batches])
    for chunk in (4096, 3):
        monkeypatch.setattr(folding, "CHUNK", chunk)
        found = moments(batches)
        assert found.rows == len(rows) == 47
        assert found.square.dtype == found.total.dtype == torch.float64
        torch.testing.assert_close(found.square, rows.T @ rows, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.total, rows.sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("limit", "stride"), [(35, 1), (18, 1), (17, 2), (10, 3)])
def test_of_long_batches_every_so_many_rows_are_taken(limit: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "ROWS", limit)
    torch.manual_seed(0)
    batch = torch.randn(5, 7, 1)
    torch.testing.assert_close(moments([batch]).total, features(batch)[::stride].sum(0), rtol=1e-5, atol=1e-5)
