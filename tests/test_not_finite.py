"""Numbers that are not finite: a step that meets them moves nothing, and none of them is ever written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shrinkspeech_cli.summary import summary
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.errors import InputError, NotFiniteError, RecipeError
from shrinkspeech.fitting.checkpoint import MOST_RETURNS, Checkpoint
from shrinkspeech.fitting.recipe import load_recipe
from shrinkspeech.fitting.settings import Settings, Standing
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.stages.tune import Tune
from shrinkspeech.fitting.taylor import taylor
from shrinkspeech.fitting.trainer import MOST_SKIPPED, Trainer, optimiser_state
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.part import Part

STEPS = 12


class Net(nn.Module):
    """Features ``[B, 6]`` → ``[B, 2]``, with running statistics that a bad batch could spoil."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.norm, self.out = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.inside(x)).relu())


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Net().eval(), (torch.randn(4, 6),))


def recipe(bad: set[int], value: float = float("nan")) -> SimpleNamespace:
    """Batches of noise; those of the numbers in ``bad`` hold ``value``."""

    def train_batches() -> Iterator[tuple[Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for number in range(1000):
            x = torch.randn(4, 6, generator=generator)
            yield (torch.full_like(x, value) if number in bad else x,)

    return SimpleNamespace(train_batches=train_batches, loss=lambda outputs, batch: outputs.square().mean())


def fit(captured: Captured, recipe: Any, **options: Any) -> Any:
    return shrinkspeech.fit(captured, recipe, "60%", **{"steps": STEPS, "settings": Settings(calibration=1), **options})


def finite(captured: Captured) -> bool:
    return all(bool(x.isfinite().all()) for x in captured.parameters().values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("number", [1, STEPS // 2, STEPS], ids=["first step", "between", "last step"])
def test_a_bad_batch_moves_nothing(captured: Captured, number: int, value: float) -> None:
    fitted = fit(captured, recipe({number}, value))
    assert fitted.report.skipped == 1
    assert finite(fitted.captured)
    assert fitted.report.loss is not None
    assert 0 < fitted.report.loss < 100


def test_a_skipped_step_leaves_weights_statistics_and_optimiser(captured: Captured) -> None:
    """One good step, then a bad one: it says that nothing moved, and to the bit nothing has."""
    settings = Settings(distil=0.0)
    trainer = Trainer(captured, load_recipe(recipe({1, 2})), settings, STEPS, 1e-2, lambda progress: None)
    model = captured.copy()
    weights = list(model.parameters())
    prepared, optimiser = trainer.prepare(model, weights, {})
    standing = Standing("tune", 1.0, 1.0, Flops, 1.0)

    def everything() -> dict[str, Tensor]:
        remembered = optimiser_state(model, optimiser)
        states = {f"{name}.{key}": value for name, state in remembered.items() for key, value in state.items()}
        return {name: value.clone() for name, value in {**model.state_dict(), **states}.items()}

    start = everything()
    assert trainer.descend(prepared, optimiser, weights, standing) is True
    after_good = everything()
    assert not torch.equal(after_good["out.weight"], start["out.weight"])
    assert not torch.equal(after_good["norm.running_mean"], start["norm.running_mean"])
    assert trainer.descend(prepared, optimiser, weights, standing) is False
    after_bad = everything()
    assert after_bad.keys() == after_good.keys() > start.keys()
    assert [name for name, value in after_good.items() if not torch.equal(value, after_bad[name])] == []
    assert (trainer.step, trainer.skipped) == (2, 1)


def test_gradients_that_are_not_finite_count_though_the_loss_is(captured: Captured) -> None:
    """√ at zero: a loss of 0 with an infinite slope."""
    steps = iter(range(1000))

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        return (0 * outputs.sum()).sqrt() if next(steps) == 4 else outputs.square().mean()

    given = SimpleNamespace(train_batches=recipe(set()).train_batches, loss=loss)
    fitted = fit(captured, given, settings=Settings(calibration=1, distil=0.0))
    assert fitted.report.skipped == 1
    assert finite(fitted.captured)


def test_too_many_in_a_row_send_the_fit_back(captured: Captured) -> None:
    """Once, with half the rate; a streak that is shorter does not."""
    fitted = fit(captured, recipe(set(range(3, 3 + MOST_SKIPPED))))
    assert (fitted.report.skipped, fitted.report.returns) == (MOST_SKIPPED, 1)
    assert finite(fitted.captured)
    spread = {number for number in range(2, 2 + 2 * MOST_SKIPPED) if number % 2}
    report = fit(captured, recipe(spread)).report
    assert (report.skipped, report.returns) == (MOST_SKIPPED, 0)


def test_numbers_that_stay_bad_stop_the_fit(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """It has gone back as often as it may, each time to the last step that moved something."""
    with pytest.raises(NotFiniteError, match=rf"is nan at step 7 .*the last of {MOST_SKIPPED} such steps"):
        fit(captured, recipe(set(range(3, 1000))))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == MOST_RETURNS
    assert all("back to step 3 with half the learning rate" in text for text in told)


def test_going_back_takes_the_weights_of_the_last_good_step_and_half_the_rate(captured: Captured) -> None:
    """Four steps are good, then five are not; the weights are spoilt meanwhile, as by an optimiser gone wild."""
    batches = recipe(set(range(4, 4 + MOST_SKIPPED))).train_batches
    given = SimpleNamespace(train_batches=batches, loss=lambda outputs, batch: outputs.square().mean())
    rates: list[tuple[int, float]] = []
    settings = Settings(distil=0.0, gate_share=0.0)
    trainer = Trainer(captured, load_recipe(given), settings, STEPS, 1e-2, lambda now: None)
    whole = Part.whole(captured, shrinkspeech.label(captured))
    job = Job(trainer, whole, Goal.whole(Flops, captured, whole.groups, 1.0).towards(Flops.parse("100%")), 0)
    stage, saved = Tune(job), Checkpoint()
    stage.begin(job.draft())
    saved.begin(stage, trainer)
    good: dict[str, Tensor] = {}
    while not stage.done:
        try:
            stage.step()
        except NotFiniteError as error:
            with torch.no_grad():
                stage.module.get_parameter("out.weight").fill_(9.0)
            saved.go_back(stage, trainer, error)
            now = stage.module.state_dict()
            assert [name for name, value in good.items() if not torch.equal(value, now[name])] == []
        if trainer.step == 4 and not good:
            good = {name: value.clone() for name, value in stage.module.state_dict().items()}
        saved.save(stage, trainer)
        rates.append((trainer.step, trainer.pace))
    bad = [(step, 1.0) for step in range(5, 4 + MOST_SKIPPED)]
    again = [(step, 0.5) for step in range(4, STEPS + 1)]
    assert rates == [*((step, 1.0) for step in range(1, 5)), *bad, *again]
    assert optimiser_state(stage.module, stage.optimiser)["out.weight"]["step"] == STEPS
    assert stage.optimiser.param_groups[0]["lr"] == pytest.approx(0.5 * 1e-2 * _schedule_at(trainer, STEPS - 1))


def _schedule_at(trainer: Trainer, step: int) -> float:
    trainer.step = step
    return trainer.schedule()


def test_a_loss_that_does_not_depend_on_the_model_is_refused(captured: Captured) -> None:
    given = SimpleNamespace(
        train_batches=recipe(set()).train_batches, loss=lambda outputs, batch: outputs.detach().square().mean()
    )
    with pytest.raises(RecipeError, match="does not depend on the model's outputs"):
        fit(captured, given, settings=Settings(distil=0.0))


def test_scores_leave_out_bad_batches(captured: Captured) -> None:
    good, bad = torch.randn(4, 6), torch.full((4, 6), torch.nan)

    def loss(model: Any, batch: Tensor) -> Tensor:
        return model(batch).square().mean()

    def scores(*batches: Tensor) -> dict[str, Tensor]:
        return taylor(shrinkspeech.gate(captured, shrinkspeech.label(captured)), batches, loss)

    found, wanted = scores(good, bad), scores(good)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(bool(score.any()) for score in wanted.values())
    with pytest.raises(RecipeError, match="not finite on any batch that units are scored with"):
        scores(bad, bad)


@pytest.mark.parametrize("name", ["out.weight", "norm.running_var"])
def test_weights_that_are_not_finite_are_not_written(captured: Captured, tmp_path: Path, name: str) -> None:
    module = captured.copy()
    module.state_dict()[name].view(-1)[0] = torch.nan
    broken = captured.trained(module)
    with pytest.raises(InputError, match=rf"{name} holds values that are not finite \(1 of \d+ tensors"):
        broken.save(tmp_path / "model.pt2")
    with pytest.raises(InputError, match=rf"{name} holds values"):
        shrinkspeech.export_onnx(broken, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_summary_tells_of_skipped_steps(
    captured: Captured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {group.name: group.size for group in shrinkspeech.label(captured)}
    summary(fit(captured, recipe({1})), sizes, tmp_path)
    assert f"1 of {STEPS} steps were skipped" in capsys.readouterr().out
    summary(fit(captured, recipe(set())), sizes, tmp_path)
    assert "skipped" not in capsys.readouterr().out
