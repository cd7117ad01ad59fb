"""The cost: against torch's own counter, against textbook formulas, and as a function that can be differentiated."""

from __future__ import annotations

import pytest
import torch
from samples import layers
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import DifferentiableCost, Polynomial, count
from shrinkspeech.groups.flops import flops
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.slice import slice as slice_graph

REFEREED = {
    sample.name: sample for sample in layers.SAMPLES if sample.name in ("wavenet", "tasnet", "conformer", "film")
}


@pytest.mark.parametrize("name", REFEREED)
def test_whole_models_against_torch(name: str) -> None:
    model, inputs = REFEREED[name].model().eval(), REFEREED[name].inputs()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert flops(capture(model, inputs)) * len(inputs[0]) == counter.get_total_flops() > 0


@pytest.mark.parametrize(
    ("equation", "shapes", "path"),
    [
        ("ti,ij,jo->to", [(7, 6), (6, 5), (5, 4)], None),
        ("ti,ij,jo->to", [(7, 6), (6, 5), (5, 4)], [1, 2, 0, 1]),
        ("ti,sj,ik->tsk", [(7, 6), (5, 3), (6, 4)], None),
        ("ti,tj->tij", [(7, 6), (7, 5)], None),
        ("ti,jk->tk", [(7, 6), (5, 4)], None),
        ("ti,io,tj,jo->o", [(7, 6), (6, 4), (7, 3), (3, 4)], None),
        ("ti,io", [(7, 6), (6, 4)], None),
        ("t...i,oi->...to", [(7, 3, 6), (4, 6)], None),
        ("ti->i", [(7, 6)], None),
    ],
)
def test_einsum_against_torch(equation: str, shapes: list[tuple[int, ...]], path: list[int] | None) -> None:
    """A product of two at a time, in torch's order; a letter that one operand alone has is summed before."""

    class Einsum(nn.Module):
        def forward(self, *operands: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten.einsum.default(equation, list(operands), path=path)

    inputs = tuple(torch.randn(shape) for shape in shapes)
    with FlopCounterMode(display=False) as counter:
        Einsum()(*inputs)
    captured = capture(Einsum(), inputs)
    assert flops(captured) * captured.batch == counter.get_total_flops()


@pytest.mark.parametrize("heads", [(6, 2), (6, 6), (6, 1)])
def test_grouped_queries_against_torch(heads: tuple[int, int]) -> None:
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    inputs = tuple(torch.randn(2, count, 7, 4) for count in (heads[0], heads[1], heads[1]))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        Attention()(*inputs)
    assert flops(capture(Attention(), inputs)) * 2 == counter.get_total_flops() == 2 * 2 * 6 * 7 * 7 * (4 + 4)


def test_a_convolution_by_hand() -> None:
    captured = capture(nn.Conv1d(3, 8, 5), (torch.randn(2, 3, 24),))
    assert flops(captured) == 2 * 3 * 8 * 5 * 20


def test_a_strided_transposed_convolution_by_hand() -> None:
    """Every input position meets the whole kernel, however long the output is."""
    captured = capture(nn.ConvTranspose1d(3, 8, 5, stride=4), (torch.randn(2, 3, 24),))
    assert flops(captured) == 2 * 3 * 8 * 5 * 24


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_by_formula(kind: type[nn.RNNBase], gates: int, both: bool) -> None:
    """2 · gates · H · (I + H) a step, for each direction."""
    steps, inputs, hidden = 7, 6, 5
    captured = capture(kind(inputs, hidden, bidirectional=both, batch_first=True), (torch.randn(2, steps, inputs),))
    assert flops(captured) == steps * 2 * gates * hidden * (inputs + hidden) * (2 if both else 1)


def test_a_projected_lstm_by_formula() -> None:
    captured = capture(nn.LSTM(6, 5, proj_size=3, batch_first=True), (torch.randn(2, 7, 6),))
    assert flops(captured) == 7 * 2 * (4 * 5 * (6 + 3) + 5 * 3)


def test_attention_by_formula() -> None:
    """Four projections and two products of T × T × D for all heads together."""
    time, width = 7, 12
    model = nn.MultiheadAttention(width, 3, batch_first=True)

    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    captured = capture(SelfAttention(), (torch.randn(2, time, width),))
    assert flops(captured) == 2 * (4 * time * width * width + 2 * time * time * width)


def test_norms_and_activations_stand_apart() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 2, 1))
    captured = capture(model, (torch.randn(2, 3, 10),))
    cost = count(captured, label(captured))
    assert cost.original == 2 * 10 * (3 * 8 + 8 * 2)
    assert len(cost.extra) == 1


def test_seconds_of_audio_divide() -> None:
    captured = capture(nn.Conv1d(3, 8, 5), (torch.randn(2, 3, 24),))
    assert flops(captured, seconds=0.25) == 4 * flops(captured)


@pytest.fixture(scope="module")
def conformer() -> Captured:
    torch.manual_seed(0)
    return capture(REFEREED["conformer"].model(), REFEREED["conformer"].inputs())


def test_the_cost_of_each_width_is_that_of_the_sliced_graph(conformer: Captured) -> None:
    groups = label(conformer)
    cost = count(conformer, groups)
    for group in groups.shrinkable:
        for width in {1, group.size // 2}:
            assert (
                cost.at({group.name: width})
                == flops(slice_graph(conformer, groups, {group.name: width}))
                < cost.original
            )


def test_the_differentiable_cost_is_exact_at_integers(conformer: Captured) -> None:
    groups = label(conformer)
    cost = count(conformer, groups)
    names = [group.name for group in groups.shrinkable]
    widths = {group.name: max(1, group.size // 3) for group in groups.shrinkable}
    value = DifferentiableCost(cost.total, names)(torch.tensor([float(widths[name]) for name in names]))
    assert float(value) == cost.at(widths)


def test_the_gradient_is_that_of_finite_differences(conformer: Captured) -> None:
    groups = label(conformer)
    names = [group.name for group in groups.shrinkable]
    function = DifferentiableCost(count(conformer, groups).total, names)
    widths = torch.tensor(
        [0.37 * group.size + 0.5 for group in groups.shrinkable], dtype=torch.float64, requires_grad=True
    )
    (gradient,) = torch.autograd.grad(function(widths), widths)
    for i, step in enumerate(torch.eye(len(names), dtype=torch.float64) * 1e-4):
        slope = float(function(widths.detach() + step) - function(widths.detach() - step)) / 2e-4
        assert float(gradient[i]) == pytest.approx(slope, rel=1e-6)
        assert float(gradient[i]) > 0


def test_shares_of_groups(conformer: Captured) -> None:
    """A group's share is what it takes part in; nothing outside a group can be saved."""
    groups = label(conformer)
    cost = count(conformer, groups)
    for group in groups.shrinkable:
        assert 0 < cost.share(group.name) <= cost.shrinkable_share <= 1
    least = cost.at({group.name: 0 for group in groups.shrinkable})
    assert cost.shrinkable_share == pytest.approx(1 - least / cost.original)


def test_what_a_group_is_worth_alone_by_hand() -> None:
    """1 → a → b → 1 channels, 10 positions, kernels of 1: 2 · (a + ab + b) · 10 operations."""
    model = nn.Sequential(nn.Conv1d(1, 4, 1), nn.Conv1d(4, 6, 1), nn.Conv1d(6, 1, 1)).eval()
    captured = capture(model, (torch.randn(2, 1, 10),))
    groups = label(captured)
    cost, whole = count(captured, groups), 4 + 4 * 6 + 6
    assert {group.size: cost.share(group.name) for group in groups} == {4: (4 + 24) / whole, 6: (24 + 6) / whole}
    alone = {group.size: cost.alone(group.name) for group in groups}
    assert alone == pytest.approx({4: 1 - (1 + 6 + 6) / whole, 6: 1 - (4 + 4 + 1) / whole})
    assert cost.removable_share == pytest.approx(1 - (1 + 1 + 1) / whole)
    kept = count(captured, groups.restrict(exclude=["0"], min_width=2))
    assert [kept.alone(group.name) for group in groups] == pytest.approx([0, 1 - (4 + 8 + 2) / whole])
    assert kept.removable_share == pytest.approx(1 - (4 + 8 + 2) / whole)


def test_what_a_group_is_worth_alone_is_what_slicing_it_saves(conformer: Captured) -> None:
    groups = label(conformer)
    cost = count(conformer, groups)
    for group in groups.shrinkable[:3]:
        left = flops(slice_graph(conformer, groups, {group.name: group.min_width}))
        assert cost.alone(group.name) == pytest.approx(1 - left / cost.original)
        assert cost.alone(group.name) < cost.removable_share


def test_polynomials_multiply_out() -> None:
    a, b = Polynomial({("x",): 2.0, (): 1.0}), Polynomial({("x",): 1.0, ("y",): 3.0})
    assert dict((a * b).terms) == {("x", "x"): 2.0, ("x", "y"): 6.0, ("x",): 1.0, ("y",): 3.0}
    assert (a * b + a).at({"x": 2.0, "y": 5.0}) == 5.0 * 17.0 + 5.0
