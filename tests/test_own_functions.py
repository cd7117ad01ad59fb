"""A backward of the user's own is kept only where it is one number at every input, not at the example alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech


class ClippedSign(torch.autograd.Function):
    """Sign with the gradient of a hard tanh."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() <= 1)


class HalfReversal(torch.autograd.Function):
    """The identity, whose gradient is turned around and halved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -0.5 * gradients[0]


class Applies(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.inside, self.function = nn.Linear(6, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(self.inside(x))


@pytest.mark.parametrize("loud", [0.001, 1.0], ids=["faint example", "loud example"])
def test_a_gradient_that_is_cut_off_is_never_taken_for_a_whole_one(loud: float) -> None:
    captured = shrinkspeech.capture(Applies(ClippedSign).eval(), (loud * torch.randn(4, 6),))
    assert any("the backward of ClippedSign" in note and "is not kept" in note for note in captured.notes)


def test_one_number_at_every_input_is_kept() -> None:
    model = Applies(HalfReversal).eval()
    module = shrinkspeech.capture(model, (0.001 * torch.randn(4, 6),)).module()
    x = 50 * torch.randn(4, 6)
    model(x).sum().backward()
    module(x).sum().backward()
    wanted, found = model.inside.weight.grad, module.get_parameter("inside.weight").grad
    assert wanted is not None
    assert found is not None
    torch.testing.assert_close(found, wanted)
    assert float(wanted.sum()) != 0.0
