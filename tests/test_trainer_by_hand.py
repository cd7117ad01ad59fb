"""The trainer, number by number, on a model of six weights: schedule, losses, steps, batches and what it remembers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.distance import distance
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.settings import Progress, Settings, Standing
from shrinkspeech.fitting.trainer import Trainer, optimiser_state, own_name
from shrinkspeech.graph.captured import Captured

PLAIN = Settings(distil=0.0, warm_up=0.25, weight_decay=0.125, clip=1e9)
STANDING = Standing("gate", 30.0, 20.0, Flops, 40.0)


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(nn.Linear(3, 2, bias=False).eval(), (torch.randn(4, 3),))


def batches() -> Iterator[tuple[Tensor, int]]:
    for count in range(3):
        yield torch.full((4, 3), float(count + 1)), count


def loss(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.square().mean()


def number(value: Tensor) -> float:
    return float(value.detach())


class Told(list[Progress]):
    """A listener."""

    __call__ = list.append


def trainer(captured: Captured, settings: Settings = PLAIN, steps: int = 8, **recipe: Any) -> Trainer:
    given: Any = {"train_batches": batches, "loss": loss, **recipe}
    return Trainer(captured, Recipe(**given), settings, steps, 0.01, Told())


def ready(found: Trainer, captured: Captured, remembered: Any = None) -> tuple[Any, Any, list[Tensor]]:
    module = captured.copy()
    weights = list(module.parameters())
    return *found.prepare(module, weights, remembered or {}), weights


def test_the_learning_rate_rises_from_a_tenth_and_falls_as_half_a_cosine(captured: Captured) -> None:
    found, rates = trainer(captured), []
    for step in range(9):
        found.step = step
        rates.append(found.schedule())
    wanted = [0.1, 0.55, *(0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(7))]
    assert rates == pytest.approx(wanted)
    assert trainer(captured, replace(PLAIN, warm_up=0.0), 0).schedule() == 1.0


def test_the_steps_with_gates_are_a_share(captured: Captured) -> None:
    assert [trainer(captured, replace(PLAIN, gate_share=0.3), steps).gated_steps for steps in (10, 9, 8)] == [3, 3, 2]


def test_one_step_by_hand(captured: Captured) -> None:
    """AdamW's first step: weights shrink by rate · decay and move by the rate against the sign of the gradient."""
    found = trainer(captured)
    model, optimiser, weights = ready(found, captured)
    before = weights[0].detach().clone()
    assert model.training
    found.step = 1
    assert found.descend(model, optimiser, weights, STANDING)
    rate, x = 0.01 * 0.55, torch.ones(4, 3)
    outputs = x @ before.T
    gradient = 2 * outputs.T @ x / outputs.numel()
    torch.testing.assert_close(
        weights[0].detach(), before * (1 - rate * 0.125) - rate * gradient.sign(), rtol=1e-4, atol=1e-6
    )
    assert found.step == 2
    assert found.recent == [pytest.approx(number(outputs.square().mean()))]
    [told] = found.listener  # type: ignore[misc]
    assert told == Progress(2, 8, "gate", found.recent[0], 40.0, 20.0, {}, 30.0, Flops)


def test_gradients_are_clipped_to_a_norm(captured: Captured) -> None:
    found = trainer(captured, replace(PLAIN, clip=0.25))
    model, optimiser, weights = ready(found, captured)
    found.descend(model, optimiser, weights, STANDING)
    assert weights[0].grad is not None
    assert number(weights[0].grad.norm()) == pytest.approx(0.25, rel=1e-3)


def test_the_last_fifty_losses_are_remembered(captured: Captured) -> None:
    found = trainer(captured, steps=60)
    model, optimiser, weights = ready(found, captured)
    found.recent = [float(k) for k in range(50)]
    found.descend(model, optimiser, weights, STANDING)
    assert len(found.recent) == 50
    assert found.recent[:2] == [1.0, 2.0]
    assert found.recent[-1] == pytest.approx(
        number((torch.ones(4, 3) @ captured.parameters()["weight"].T).square().mean())
    )


def test_an_optimiser_goes_on_from_what_another_remembered(captured: Captured) -> None:
    found = trainer(captured)
    model, optimiser, weights = ready(found, captured)
    for _ in range(3):
        found.descend(model, optimiser, weights, STANDING)
    memory = optimiser_state(model, optimiser)
    assert set(memory) == {"weight"}
    assert set(memory["weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert number(memory["weight"]["step"]) == 3.0
    again, second, _ = ready(found, captured, {"weight": memory["weight"], "other": {}})
    restored = optimiser_state(again, second)["weight"]
    assert all(torch.equal(restored[name], memory["weight"][name]) for name in restored)
    assert restored is not memory["weight"]
    assert [own_name(name) for name in ("graph.a.weight", "a.weight", "a.graph.b")] == [
        "a.weight",
        "a.weight",
        "a.graph.b",
    ]


def test_a_skipped_step_counts_and_five_in_a_row_stop(captured: Captured) -> None:
    found = trainer(captured, loss=lambda outputs, batch: outputs.sum() * float("nan"))
    model, optimiser, weights = ready(found, captured)
    before = weights[0].detach().clone()
    for count in range(1, 5):
        assert not found.descend(model, optimiser, weights, STANDING)
        assert (found.skipped, found.in_a_row, found.step, found.recent) == (count, count, count, [])
    with pytest.raises(RecipeError, match=r"the loss of 'recipe' is nan at step 4 \(gate\), the last of 5 such steps"):
        found.descend(model, optimiser, weights, STANDING)
    assert torch.equal(weights[0], before)
    assert weights[0].grad is None
    found.losses.recipe = replace(found.recipe, loss=loss)
    assert found.descend(model, optimiser, weights, STANDING)
    assert (found.skipped, found.in_a_row) == (5, 0)


# -- losses -------------------------------------------------------------------------------------------------------


def doubled(captured: Captured) -> Any:
    return lambda x: 2 * captured.graph_module(x)


def test_the_loss_is_the_tasks_and_the_weighted_distance(captured: Captured) -> None:
    batch = (torch.randn(4, 3), 0)
    wanted = captured.graph_module(batch[0]).detach()
    apart = number(wanted.square().sum() / (wanted.var(correction=0) * wanted.numel()))
    task = number((2 * wanted).square().mean())
    assert number(trainer(captured).loss(doubled(captured), batch)) == pytest.approx(task)
    assert trainer(captured).losses.teacher is None
    both = trainer(captured, replace(PLAIN, distil=3.0))
    assert number(both.loss(doubled(captured), batch)) == pytest.approx(task + 3 * apart)
    assert not any(p.requires_grad for p in both.losses.teacher.parameters())  # type: ignore[union-attr]
    alone = trainer(captured, loss=None)
    assert number(alone.loss(doubled(captured), batch)) == pytest.approx(apart)


def test_without_labels_a_random_projection_stands_in_for_the_loss_of_scores(captured: Captured) -> None:
    batch, found = (torch.randn(4, 3), 0), trainer(captured)
    generator = torch.Generator().manual_seed(5)
    model = captured.graph_module
    assert number(found.calibration_loss(model, batch, generator)) == pytest.approx(
        number(loss(model(batch[0]), batch))
    )
    value = number(trainer(captured, loss=None).calibration_loss(model, batch, generator))
    generator.manual_seed(5)
    signs = torch.randint(0, 2, (4, 2), generator=generator) * 2 - 1
    assert value == pytest.approx(number((model(batch[0]) * signs).sum() / 8**0.5), rel=1e-5)


def test_distances_are_relative_to_the_variance_and_leave_out_infinite_values() -> None:
    wanted = torch.tensor([1.0, 3.0, -torch.inf, torch.inf])
    assert number(distance(torch.tensor([2.0, 5.0, 0.0, torch.nan]), wanted)) == pytest.approx((1 + 4) / 2)
    assert number(distance(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 1.0]))) == pytest.approx(5 / 1e-8)
    assert number(distance(torch.tensor([2.0, torch.nan]), torch.tensor([1.0, 2.0]))) != 0
    nothing = distance(torch.ones(2, requires_grad=True), torch.full((2,), torch.inf))
    assert number(nothing) == 0.0
    assert nothing.requires_grad


def test_the_distance_is_the_mean_over_real_outputs(captured: Captured) -> None:
    found = trainer(captured, replace(PLAIN, distil=1.0))
    one, two = torch.tensor([1.0, -1.0]), torch.tensor([2.0, -2.0])
    found.losses.teacher = lambda: (one, torch.tensor([3, 4]), {"more": two})  # type: ignore[assignment]
    outputs = (torch.zeros(2), torch.tensor([0, 0]), {"more": two + 2})
    assert number(found.losses._distance(outputs, ())) == pytest.approx((1.0 + 1.0) / 2)
    found.losses.teacher = lambda: torch.tensor([3, 4])  # type: ignore[assignment]
    with pytest.raises(RecipeError, match="no real-valued output"):
        found.losses._distance(torch.tensor([3, 4]), ())


# -- data ---------------------------------------------------------------------------------------------------------


def test_batches_start_again_and_are_counted(captured: Captured) -> None:
    found = trainer(captured)
    assert [found.next_batch()[1] for _ in range(5)] == [0, 1, 2, 0, 1]
    assert found.used == 5
    with pytest.raises(RecipeError, match=r"train_batches\(\) of 'recipe' yields nothing"):
        trainer(captured, train_batches=lambda: ()).next_batch()


@pytest.mark.parametrize("kind", [tuple, list, lambda items: items[0]])
def test_inputs_of_a_batch_are_a_tuple(captured: Captured, kind: Any) -> None:
    x = torch.ones(4, 3)
    given = trainer(captured, inputs=lambda batch: kind([batch])).losses.inputs(x, "cpu")
    assert isinstance(given, tuple)
    assert given[0] is x


def test_metrics_are_those_of_evaluation(captured: Captured) -> None:
    seen = []

    def evaluate(model: nn.Module) -> dict[str, Any]:
        seen.append((model.training, torch.is_grad_enabled()))
        return {"loss": torch.tensor(2.5)}

    found, module = trainer(captured, evaluate=evaluate), captured.copy().train()
    assert found.metrics == {}
    assert found.evaluate(module) == found.metrics == {"loss": 2.5}
    assert seen == [(False, False)]
    assert trainer(captured).evaluate(module) == {}


def test_a_trainer_goes_on_from_the_state_of_another(captured: Captured) -> None:
    found, again = trainer(captured), trainer(captured)
    model, optimiser, weights = ready(found, captured)
    for _ in range(2):
        found.descend(model, optimiser, weights, STANDING)
    found.metrics, found.skipped, found.in_a_row = {"eer": 3.0}, 4, 1
    state = found.state()
    again.next_batch()
    again.load(state)
    assert again.state() == state
    assert state["step"] == state["used"] == len(state["recent"]) == 2
    assert again.next_batch()[1] == found.next_batch()[1] == 2
    again.restart(5)
    assert (again.step, again.steps, again.recent, again.skipped, again.in_a_row) == (0, 5, [], 0, 0)


def test_half_precision_scales_are_kept_in_the_state(captured: Captured) -> None:
    class Scaler:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        def state_dict(self) -> dict[str, float]:
            return {"scale": self.scale}

        def load_state_dict(self, state: dict[str, float]) -> None:
            self.scale = state["scale"]

    found, again = trainer(captured), trainer(captured)
    assert not found.scaled
    found.accelerator, again.accelerator = (SimpleNamespace(scaler=Scaler(x)) for x in (8.0, 2.0))  # type: ignore[assignment]
    assert found.scaled
    again.load(found.state())
    assert again.accelerator.scaler.scale == 8.0
    again.load({**found.state(), "scaler": None})
    assert again.accelerator.scaler.scale == 8.0
