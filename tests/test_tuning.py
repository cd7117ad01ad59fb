"""The running average of the weights, which is what a fit leaves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.fitting.average import RunningAverage
from shrinkspeech.fitting.recipe import Recipe, load_recipe
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.stages.tune import Tune
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.part import Part


class Normed(nn.Module):
    """A layer, a batch norm, and constants that cannot be averaged."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, 0.1, 0.0, math.inf, -0.0]))
        self.register_buffer("places", torch.tensor([5, 3, 1, 0, 2, 4]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.layer(x))[:, self.places]
        return y.masked_fill(self.mask.isinf(), 0.0)


class Scaled(nn.Sequential):
    """Two layers and a buffer that stands six times on one number."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.Linear(8, 6))
        self.register_buffer("scale", torch.full((1,), 0.5).expand(6))

    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x)) * self.scale


def recipe(outputs: int = 6) -> Recipe:
    """Targets that the model does not have yet."""

    def batches() -> Any:
        generator = torch.Generator().manual_seed(3)
        while True:
            x = torch.randn(16, 4, generator=generator)
            yield x, x.sum(1, keepdim=True).expand(-1, outputs)

    given = type("Given", (), {"train_batches": staticmethod(batches), "loss": staticmethod(square)})
    return load_recipe(given)


def square(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (outputs - batch[1]).square().mean()


def tuned(captured: Captured, average: float, steps: int) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """The weights after each step of the last three quarters, and those that remain."""
    torch.manual_seed(0)
    settings = Settings(average=average, gate_share=0.25)
    trainer = Trainer(captured, recipe(), settings, steps, 1e-1, lambda progress: None)
    trainer.load({**trainer.state(), "step": trainer.gated_steps})
    groups = shrinkspeech.label(captured)
    job = Job(trainer, Part.whole(captured, groups), Goal.whole(Flops, captured, groups), seed=0)
    stage, seen = Tune(job), list[dict[str, Tensor]]()
    stage.begin(job.draft())
    while not stage.done:
        stage.step()
        seen.append({name: tensor.clone() for name, tensor in stage.module.state_dict().items()})
    return seen, stage.result().part.captured.graph_module.state_dict()


@pytest.fixture
def captured() -> Captured:
    torch.manual_seed(1)
    return shrinkspeech.capture(Normed().eval(), (torch.randn(4, 4),))


def test_the_last_weights_remain_without_an_average(captured: Captured) -> None:
    seen, final = tuned(captured, 0.0, 5)
    assert all(torch.equal(tensor, seen[-1][name]) for name, tensor in final.items())


def test_weights_and_statistics_are_averaged_over_a_share_of_the_steps(captured: Captured) -> None:
    steps, share = 20, 0.4
    seen, final = tuned(captured, share, steps)
    assert len(seen) == 15
    new = 1 - math.exp(-1 / (share * len(seen)))
    for name in ("layer.weight", "layer.bias", "norm.running_mean", "norm.running_var"):
        wanted = seen[0][name]
        for state in seen[1:]:
            wanted = wanted + new * (state[name] - wanted)
        torch.testing.assert_close(final[name], wanted)
        assert not torch.equal(final[name], seen[-1][name])


def test_constants_stay_as_they_are(captured: Captured) -> None:
    before = {name: tensor.clone() for name, tensor in captured.graph_module.state_dict().items()}
    _, final = tuned(captured, 0.4, 6)
    constants = [name for name, tensor in before.items() if tensor.isinf().any() or name.endswith("places")]
    assert len(constants) == 2
    assert all(torch.equal(final[name], before[name]) for name in constants)


def test_a_buffer_that_repeats_one_value_has_its_own_memory() -> None:
    captured = shrinkspeech.capture(Scaled().eval(), (torch.randn(4, 4),))
    fitted = shrinkspeech.fit(captured, recipe(), "60%", steps=8)
    assert fitted.captured.graph_module.get_buffer("scale").tolist() == [0.5] * 6


def test_an_average_goes_on_from_its_values() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    states = [{name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()} for _ in range(6)]
    whole, halves = RunningAverage(2.0), RunningAverage(2.0)
    for i, state in enumerate(states):
        model.load_state_dict(state)
        if i == 3:
            first, halves = halves, RunningAverage(2.0)
            halves.load(first.state())
            given = {name: value.clone() for name, value in first.state().items()}
        whole.update(model)
        halves.update(model)
    assert all(torch.equal(value, halves.values[name]) for name, value in whole.values.items())
    assert not torch.equal(whole.values["weight"], states[-1]["weight"])
    assert all(torch.equal(value, given[name]) for name, value in first.values.items()), "another average is left alone"


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.complex32, torch.complex64, torch.bool])
def test_every_type_of_tensor_can_be_held(dtype: torch.dtype) -> None:
    holder, average = nn.Linear(1, 1), RunningAverage(2.0)
    for value in (1.0, 0.5, 0.0):
        holder.register_buffer("held", torch.full((2,), value).to(dtype))
        average.update(holder)
    kept = 1 - average.share
    wanted = 0.0 if dtype == torch.bool else kept * (kept + 0.5 * average.share)
    assert average.values["held"].to(torch.complex64).real.tolist() == pytest.approx([wanted] * 2)


def test_small_changes_of_half_precision_are_not_lost() -> None:
    """A hundredth of the last bit of bfloat16 counts too."""
    model, average = nn.Linear(3, 2, bias=False).to(torch.bfloat16), RunningAverage(100.0)
    nn.init.constant_(model.weight, 1.0)
    average.update(model)
    nn.init.constant_(model.weight, 1.0 + 2**-7)
    for _ in range(1000):
        average.update(model)
    torch.testing.assert_close(average.values["weight"], model.weight.float())


def test_counters_are_the_last_ones() -> None:
    norm, average = nn.BatchNorm1d(3), RunningAverage(5.0)
    for _ in range(4):
        norm(torch.randn(8, 3))
        average.update(norm)
    assert int(average.values["num_batches_tracked"]) == 4


def test_without_steps_the_weights_stay(captured: Captured) -> None:
    seen, final = tuned(captured, 0.4, 0)
    assert seen == []
    before = captured.graph_module.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in final.items())
