"""Scores by gradients and by magnitude, on models small enough to score by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.axes.algebra import Axis, Fixed, Label, Product, Sum
from shrinkspeech.fitting.taylor import magnitude, owners, random_projection, taylor
from shrinkspeech.groups.groups import Group, Groups

IN = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
OUT = torch.tensor([[2.0, -3.0, 0.5]])


class Chain(nn.Sequential):
    """Features x, y, x + y of ``[B, 2]``, read with weights 2, −3 and 0.5."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
        with torch.no_grad():
            self[0].weight.copy_(IN)
            self[1].weight.copy_(OUT)


def gated(model: nn.Module, *inputs: Tensor) -> shrinkspeech.GatedModule:
    captured = shrinkspeech.capture(model.eval(), inputs)
    return shrinkspeech.gate(captured, shrinkspeech.label(captured))


def total(model: Any, batch: Tensor) -> Tensor:
    return model(batch).sum()


def test_scores_are_sums_of_squares_over_batches() -> None:
    """∂L/∂keep_u is the sum over a batch of w_u x_u: 2·3, −3·4, 0.5·7 in the first, 2·(−3), −3·1, 0.5·(−2) in the second."""
    batches = [torch.tensor([[1.0, 3.0], [2.0, 1.0]]), torch.tensor([[-3.0, 1.0]])]
    [scores] = taylor(gated(Chain(), torch.randn(2, 2)), batches, total).values()
    assert scores.tolist() == pytest.approx([36 + 36, 144 + 9, 3.5**2 + 1])
    [twice] = taylor(gated(Chain(), torch.randn(2, 2)), batches * 2, total).values()
    assert twice.tolist() == pytest.approx((2 * scores).tolist())


def test_batches_of_opposite_sign_do_not_cancel_and_rows_of_one_batch_do() -> None:
    x = torch.tensor([[1.0, 2.0]])
    model = gated(Chain(), torch.randn(2, 2))
    [apart] = taylor(model, [x, -x], total).values()
    [together] = taylor(model, [torch.cat([x, -x])], total).values()
    assert apart.tolist() == pytest.approx([8.0, 72.0, 4.5])
    assert together.tolist() == [0.0, 0.0, 0.0]


def test_scores_leave_the_model_as_it_was() -> None:
    """Also where the loss fails: the keeps are those of the widths again, and parameters can be trained."""
    model = gated(Chain(), torch.randn(2, 2)).train()
    x = torch.randn(4, 2)
    before = model.eval()(x).detach()
    model.train()

    def fail(found: Any, batch: Tensor) -> Tensor:
        assert found.widths.overrides
        assert not found.training
        found(batch)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        taylor(model, [x], fail)
    assert model.widths.overrides == {}
    assert torch.equal(model(x), before)
    assert all(parameter.requires_grad for parameter in model.graph.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_scores_do_not_depend_on_the_present_widths() -> None:
    model, x = gated(Chain(), torch.randn(2, 2)), torch.randn(4, 2)
    [whole] = taylor(model, [x], total).values()
    model.widths.set({"0": 1.5})
    [part] = taylor(model, [x], total).values()
    assert torch.equal(part, whole)


def test_without_names_or_without_a_gradient_nothing_is_scored() -> None:
    model, x = gated(Chain(), torch.randn(2, 2)), torch.randn(4, 2)
    assert taylor(model, [x], total, []) == {}
    [scores] = taylor(model, [x], lambda found, batch: batch.sum()).values()
    assert scores.tolist() == [0.0] * 3
    turns = iter([False, True])
    [after] = taylor(model, [x, x], lambda found, batch: found(batch).sum() if next(turns) else batch.sum()).values()
    [once] = taylor(model, [x], total).values()
    assert torch.equal(after, once)


def test_magnitude_is_the_norm_of_all_that_a_unit_owns() -> None:
    """Rows and bias of the writer, columns of the reader: √(1 + 4), √(1 + 9), √(1 + 1 + 0.25)."""
    captured = shrinkspeech.capture(Chain().eval(), (torch.randn(2, 2),))
    [scores] = magnitude(captured, shrinkspeech.label(captured)).values()
    assert scores.tolist() == pytest.approx([5**0.5, 10**0.5, 2.25**0.5])


def test_the_magnitude_of_a_recurrent_unit_counts_all_its_gates() -> None:
    """Rows u, H + u, 2H + u of matrices and biases, column u of ``weight_hh`` and of the reader; a crossing counts as both."""
    torch.manual_seed(0)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.out = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.gru(x)[0])

    model = Small()
    captured = shrinkspeech.capture(model.eval(), (torch.randn(2, 4, 2),))
    scores = magnitude(captured, shrinkspeech.label(captured))["gru"]
    gru, wanted = model.gru, []
    for unit in range(3):
        rows = [unit, 3 + unit, 6 + unit]
        parts = [gru.weight_ih_l0[rows], gru.bias_ih_l0[rows], gru.bias_hh_l0[rows], model.out.weight[:, unit]]
        squares = sum(float(part.detach().square().sum()) for part in parts)
        hidden = gru.weight_hh_l0.detach().square()
        squares += float(hidden[rows].sum() + hidden[:, unit].sum())
        wanted.append(squares**0.5)
    assert scores.tolist() == pytest.approx(wanted)


UP, OTHER = Group("up", Label(1, 2)), Group("other", Label(2, 3))


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        (UP.label, [0, 1]),
        (OTHER.label, [-1] * 3),
        (Product((UP.label, Fixed(2))), [0, 0, 1, 1]),
        (Product((Fixed(2), UP.label)), [0, 1, 0, 1]),
        (Sum((Fixed(1), UP.label, OTHER.label)), [-1, 0, 1, -1, -1, -1]),
        (Product((OTHER.label, UP.label)), [0, 1] * 3),
    ],
    ids=["its own", "another's", "outer", "inner", "side by side", "with another"],
)
def test_which_unit_owns_a_position(axis: Axis, wanted: list[int]) -> None:
    assert owners(Groups({"up": UP, "other": OTHER}, {}, {}, {}), axis, UP) == wanted


def test_a_projection_is_a_sum_with_random_signs() -> None:
    """Σ ± x / √n of each real output; whole numbers and what is no tensor are left out."""
    outputs = {"a": torch.tensor([3.0]), "b": (torch.full((4,), 2.0), torch.arange(5)), "c": None}
    seen = {float(random_projection(outputs, torch.Generator().manual_seed(seed))) for seed in range(60)}
    assert seen == {sign * 3.0 + plus * 2.0 / 2 for sign in (-1, 1) for plus in (-4, -2, 0, 2, 4)}
    again = [float(random_projection(outputs, torch.Generator().manual_seed(5))) for _ in range(2)]
    assert again[0] == again[1]
