"""Scores of units where not every group can be chosen by selection."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.taylor import taylor, weights_held
from shrinkspeech.rules.cells import masked_cell
from shrinkspeech.rules.recurrences import masked_state


class Heads(nn.Module):
    """Two heads of hidden units; the loss of these tests looks at the first alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.second = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.second(x)


def train_batches() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        yield torch.randn(16, 8, generator=generator)


def first_alone(outputs: tuple[Tensor, Tensor], batch: Tensor) -> Tensor:
    return (outputs[0] - batch[:, :4]).square().mean()


@pytest.fixture
def gated() -> shrinkspeech.GatedModule:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Heads().eval(), (torch.randn(2, 8),))
    return shrinkspeech.gate(captured, shrinkspeech.label(captured))


def test_groups_that_the_loss_does_not_feel_score_nothing(gated: shrinkspeech.GatedModule) -> None:
    batches = list(train_batches())[:2]
    scores = taylor(gated, batches, lambda m, x: first_alone(m(x), x))
    assert set(scores) == {"first.0", "second.0"}
    assert float(scores["first.0"].min()) >= 0
    assert float(scores["first.0"].max()) > 0
    assert not scores["second.0"].any()
    assert not taylor(gated, batches, lambda m, x: first_alone(m(x), x), ["second.0"])["second.0"].any()
    alone = taylor(gated, batches, lambda m, x: first_alone(m(x), x), ["first.0"])
    assert list(alone) == ["first.0"]
    assert torch.allclose(alone["first.0"], scores["first.0"])


def test_a_head_that_the_loss_leaves_out_can_be_fitted() -> None:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Heads().eval(), (torch.randn(2, 8),))
    recipe = SimpleNamespace(train_batches=train_batches, loss=first_alone, inputs=lambda batch: (batch,))
    fitted = shrinkspeech.fit(captured, recipe, "50%", steps=8, settings=Settings(distil=0.0), evaluate=False)
    assert fitted.report.flops <= 0.5 * fitted.report.original_flops


def test_parameters_move_again_after_an_error() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)

    def fail() -> None:
        with weights_held(model):
            assert not model.weight.requires_grad
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.weight.requires_grad
    assert not model.bias.requires_grad


@pytest.mark.parametrize("layer", [True, False], ids=["layer", "cell"])
def test_masked_recurrences_keep_the_type_of_their_weights(layer: bool) -> None:
    seen: list[Tensor] = []
    weights = [torch.ones(6, 3, dtype=torch.bfloat16), torch.ones(6, 2, dtype=torch.bfloat16)]
    keeps, state = [torch.tensor([1.0, 0.25])], torch.zeros(1)
    if layer:
        masked_state(lambda x, state, weights, *rest: seen.extend(weights))(keeps, state, state, weights)
    else:
        masked_cell(lambda x, state, *weights: seen.extend(weights))(keeps, state, state, *weights)
    assert seen[1].dtype == torch.bfloat16
    assert seen[1][0].tolist() == [1.0, 0.25]
