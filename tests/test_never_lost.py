"""A fit is never lost: what it goes on from, what it refuses to go on with, and what ends it."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import shrinkspeech
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.errors import InputError
from shrinkspeech.fitting.batches import Batches
from shrinkspeech.fitting.checkpoint import Checkpoint, previous
from shrinkspeech.fitting.identity import weights_hash
from shrinkspeech.fitting.interrupt import Stopped
from shrinkspeech.fitting.recipe import Recipe, load_recipe
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.fitting.stages.stage import Job
from shrinkspeech.fitting.stages.tune import Tune
from shrinkspeech.fitting.sweep import sweep
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.part import Part

STEPS = 12
Listener = Callable[[Progress], None]


class Ended(Exception):
    """As if the process had been killed."""


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3)).eval()


@pytest.fixture(scope="module")
def captured() -> Captured:
    return shrinkspeech.capture(net(), (torch.randn(4, 6),))


DATA = TensorDataset(torch.randn(24, 6, generator=torch.Generator().manual_seed(0)))


def shuffled() -> Iterator[tuple[Tensor, float]]:
    """As most loaders do it, from the common random numbers: four batches, then others in another order."""
    for (x,) in DataLoader(DATA, batch_size=6, shuffle=True):
        yield x, random.random() + float(np.random.rand())


RECIPE = SimpleNamespace(
    train_batches=shuffled,
    loss=lambda outputs, batch: (outputs - batch[1]).square().mean(),
    inputs=lambda batch: batch[0],
)


def at(step: int, act: Callable[[], Any]) -> Listener:
    return lambda now: act() if now.step == step else None


def end() -> None:
    raise Ended


def fit(captured: Captured, recipe: Any = RECIPE, **options: Any) -> Any:
    given = {"steps": STEPS, "settings": Settings(calibration=2), **options}
    return shrinkspeech.fit(captured, recipe, "50%", **given)


@pytest.fixture(scope="module")
def whole(captured: Captured) -> str:
    """What a fit leaves that nothing disturbs."""
    return weights_hash(fit(captured).captured)


@pytest.mark.parametrize("step", [1, 5, 8, STEPS])
def test_batches_in_a_random_order_come_again(captured: Captured, whole: str, tmp_path: Path, step: int) -> None:
    """Of the second epoch and the third too, though training draws random numbers between them."""
    file = tmp_path / "c.pt"
    with pytest.raises(Ended):
        fit(captured, checkpoint=file, checkpoint_every=1, on_progress=at(step, end))
    assert weights_hash(fit(captured, checkpoint=file, resume=True).captured) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_with_its_state_written(
    captured: Captured, whole: str, tmp_path: Path, number: int
) -> None:
    file, before = tmp_path / "c.pt", signal.getsignal(number)
    told = rf"stopped by {signal.Signals(number).name} at step 7 of 12 \(tune\): its state is in .*c.pt, and the same command"
    with pytest.raises(Stopped, match=told) as caught:
        fit(captured, checkpoint=file, on_progress=at(7, lambda: os.kill(os.getpid(), number)))
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
    seen: list[int] = []
    again = fit(captured, checkpoint=file, resume=True, on_progress=lambda now: seen.append(now.step))
    assert seen[0] == 8
    assert weights_hash(again.captured) == whole


def test_a_second_signal_does_not_wait(captured: Captured, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one ends it")

    with pytest.raises(Stopped):
        fit(captured, checkpoint=tmp_path / "c.pt", on_progress=at(7, twice))


def test_signals_are_left_alone_elsewhere(captured: Captured, tmp_path: Path) -> None:
    """In a fit that writes nothing, and in threads, which cannot have handlers."""
    seen: list[Any] = []
    look = at(2, lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    before = signal.getsignal(signal.SIGTERM)
    fit(captured, on_progress=look)
    thread = threading.Thread(target=lambda: fit(captured, checkpoint=tmp_path / "c.pt", on_progress=look))
    thread.start()
    thread.join()
    assert seen == [before, before]


@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    captured: Captured, whole: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    file = tmp_path / "c.pt"
    with pytest.raises(Ended):
        fit(captured, checkpoint=file, checkpoint_every=1, on_progress=at(9, end))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data[:-100] if harm == "cut" else data)
    if harm == "gone":
        file.unlink()
    seen: list[int] = []
    again = fit(captured, checkpoint=file, resume=True, on_progress=lambda now: seen.append(now.step))
    assert seen[0] == 8
    assert weights_hash(again.captured) == whole
    assert ("is damaged, or no checkpoint of a fit: the one before is taken" in caplog.text) == (harm != "gone")


def test_a_damaged_checkpoint_never_takes_the_place_of_the_one_before(captured: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    with pytest.raises(Ended):
        fit(captured, checkpoint=file, checkpoint_every=1, on_progress=at(9, end))
    good = previous(file).read_bytes()
    file.write_bytes(b"damaged")
    with pytest.raises(Ended):
        fit(captured, checkpoint=file, checkpoint_every=1, resume=True, on_progress=at(9, end))
    assert [file.read_bytes() == b"damaged", previous(file).read_bytes() == good] == [False, True]
    fit(captured, checkpoint=file, resume=True)


def other_weights(captured: Captured) -> Captured:
    module = captured.copy()
    with torch.no_grad():
        next(module.parameters())[0, 0] += 1e-3
    return captured.trained(module)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 13}, r"it differs in steps \(13, it was 12\)"),
        ({"learning_rate": 1e-3, "seed": 1}, r"seed \(1, it was 0\); learning rate \(0.001, it was 0.002\)"),
        ({"settings": Settings(calibration=2, distil=1.0)}, r"settings.distil \(1.0, it was 16.0\)"),
        ({"recipe": SimpleNamespace(train_batches=shuffled, loss=lambda o, b: o.mean() ** 2)}, "it differs in recipe"),
    ],
)
def test_another_fit_does_not_go_on(captured: Captured, tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    file = tmp_path / "c.pt"
    with pytest.raises(Ended):
        fit(captured, checkpoint=file, on_progress=at(4, end))
    with pytest.raises(InputError, match=expected):
        fit(captured, checkpoint=file, resume=True, **options)


def test_other_weights_of_the_same_shapes_do_not_go_on(
    captured: Captured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless they may begin anew, and then nothing of the earlier fit is in them."""
    file, changed = tmp_path / "c.pt", other_weights(captured)
    with pytest.raises(Ended):
        fit(captured, checkpoint=file, on_progress=at(4, end))
    with pytest.raises(InputError, match="it differs in weights of the model: give what it was given, or --overwrite"):
        fit(changed, checkpoint=file, resume=True)
    anew = fit(changed, checkpoint=file, resume=True, begin_anew=True)
    assert "it differs in weights of the model: this one begins anew" in caplog.text
    assert weights_hash(anew.captured) == weights_hash(fit(changed).captured)


def test_a_disk_that_is_full_is_told_once_and_the_fit_goes_on(
    captured: Captured, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert weights_hash(fit(captured, checkpoint=tmp_path / "c.pt", checkpoint_every=1).captured) == whole
    assert caplog.text.count("(No space left on device): the fit goes on, and would be lost if it were stopped") == 1
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_not_written(captured: Captured, tmp_path: Path) -> None:
    """The last good state is, when the fit is asked to end."""
    whole = Part.whole(captured, shrinkspeech.label(captured))
    trainer = Trainer(captured, load_recipe(RECIPE), Settings(gate_share=0.0), STEPS, 1e-2, lambda now: None)
    job = Job(trainer, whole, Goal.whole(Flops, captured, whole.groups, 1.0).towards(Flops.parse("100%")), 0)
    stage, saved = Tune(job), Checkpoint(tmp_path / "c.pt")
    stage.begin(job.draft())
    for _ in range(3):
        stage.step()
        saved.save(stage, trainer)
    assert not (tmp_path / "c.pt").exists()
    with torch.no_grad():
        next(stage.module.parameters()).fill_(float("nan"))
    saved.interrupt.received, trainer.step = signal.SIGTERM, 4
    with pytest.raises(Stopped):
        saved.save(stage, trainer)
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    assert state["trainer"]["step"] == 3
    assert all(bool(x.isfinite().all()) for x in state["state"]["draft"]["part"]["weights"].values())


@pytest.mark.parametrize("step", [7, STEPS, STEPS + 5, 2 * STEPS])
def test_a_sweep_goes_on(captured: Captured, tmp_path: Path, step: int) -> None:
    """In the first budget, at its end, in the second and at its end; budgets that were reached are handed out again."""

    def run(**options: Any) -> Any:
        return sweep(captured, RECIPE, ["60%", "30%"], steps=STEPS, settings=Settings(calibration=2), **options)

    wanted, file = run(), tmp_path / "c.pt"
    with pytest.raises(Ended):
        run(checkpoint=file, checkpoint_every=2, on_progress=at(step, end))
    handed: list[str] = []
    seen: list[int] = []
    found = run(
        checkpoint=file,
        resume=True,
        on_fitted=lambda text, fitted: handed.append(text),
        on_progress=lambda now: seen.append(now.step),
    )
    assert seen[0] == (step - 1) // 2 * 2 + 1
    assert handed == ["60%", "30%"]
    for again, once in zip(found, wanted, strict=True):
        assert weights_hash(again.captured) == weights_hash(once.captured)
        assert (again.widths, again.kept) == (once.widths, once.kept)
        assert again.report.flops == once.report.flops


def test_batches_that_were_used_are_left_out_where_the_recipe_can(captured: Captured) -> None:
    made: list[int] = []

    def numbers(start: int = 0) -> Iterator[int]:
        for number in range(start, 5):
            made.append(number)
            yield number

    recipe = Recipe(numbers, None, batches_from=numbers)
    for given, drawn in ((recipe, []), (replace(recipe, batches_from=None), [0, 1, 2])):
        made.clear()
        batches = Batches(given)
        batches.skip(3)
        assert [batches.draw() for _ in range(7)] == [3, 4, 0, 1, 2, 3, 4]
        assert (made, batches.used) == ([*drawn, 3, 4, 0, 1, 2, 3, 4], 10)
