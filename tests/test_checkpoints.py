"""A fit that was interrupted goes on bit by bit where it stopped, in whichever stage."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.files import seal
from shrinkspeech.fitting.checkpoint import Checkpoint, previous
from shrinkspeech.fitting.fit import STAGES, shrink
from shrinkspeech.fitting.randomness import seed_everything
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.fitting.stages.stage import Draft, Job, Stage
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from tests.detector import RECIPE, SECONDS, Detector, job


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Detector().eval(), (torch.randn(2, 12, 50),))


@pytest.fixture(scope="module")
def small() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(
        nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4)).eval(), (torch.randn(2, 8),)
    )


def fit(captured: Captured, **options: Any) -> Any:
    settings = Settings(warm_start=3.0, reslice=0.9)
    return shrinkspeech.fit(
        captured, RECIPE, "15%", **{"steps": 30, "seconds": SECONDS, "settings": settings, **options}
    )


@pytest.fixture(scope="module")
def whole(captured: Captured) -> Any:
    """A fit that is never interrupted."""
    return fit(captured)


def stop_at(step: int) -> Callable[[Progress], None]:
    def stop(now: Progress) -> None:
        if now.step == step:
            raise Stopped

    return stop


def assert_equal(found: Captured, wanted: Captured) -> None:
    """All tensors are the same to the bit."""
    small = found.parameters()
    assert small.keys() == wanted.parameters().keys()
    assert all(torch.equal(tensor, small[name]) for name, tensor in wanted.parameters().items())


@pytest.mark.parametrize("step", [4, 11, 14, 23])
def test_resume(captured: Captured, whole: Any, tmp_path: Path, step: int) -> None:
    """Stopped while widths fall, at the last gated step but one, and while tuning; checkpoints are every two steps."""
    file = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        fit(captured, checkpoint=file, checkpoint_every=2, on_progress=stop_at(step))
    torch.manual_seed(99)
    seen: list[int] = []
    resumed = fit(captured, checkpoint=file, resume=True, on_progress=lambda now: seen.append(now.step))
    assert seen[0] == (step - 1) // 2 * 2 + 1
    assert resumed.widths == whole.widths
    assert resumed.kept == whole.kept
    assert_equal(resumed.captured, whole.captured)
    assert resumed.report.metrics_after == whole.report.metrics_after
    assert resumed.report.loss == whole.report.loss


class Kept(Checkpoint):
    """Keeps every checkpoint that is written, with the stage and the step that it was left at."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder / "state.pt", every)
        self.written: list[tuple[str, int, Path]] = []

    def save(self, stage: Stage, trainer: Trainer) -> None:
        super().save(stage, trainer)
        file = Path(str(self.path))
        if file.exists():
            kept = file.with_name(f"{len(self.written)}.pt")
            self.written.append((stage.name, trainer.step, file.rename(kept)))

    def of(self, stage: str) -> list[Path]:
        return [file for name, _, file in self.written if name == stage]


def constant_job(small: Captured, loss: Callable[[Tensor, Tensor], Tensor]) -> Job:
    """Two gated steps and six of tuning, with a few batches of ``[4, 8]`` that are always the same."""
    batches = [torch.randn(4, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    recipe = SimpleNamespace(train_batches=lambda: batches, loss=loss, inputs=lambda batch: batch)
    return job(small, "50%", 8, Settings(calibration=2), recipe=recipe)


def square(outputs: Tensor, batch: Tensor) -> Tensor:
    return (outputs - 1).square().mean()


@pytest.mark.parametrize(
    "draw",
    [random.random, np.random.random_sample, lambda: float(torch.rand(()))],
    ids=["python", "numpy", "torch"],
)
def test_random_numbers_go_on_where_they_were(small: Captured, tmp_path: Path, draw: Callable[[], float]) -> None:
    """The loss draws from one of the three generators, which stand elsewhere before the fit is resumed."""

    def loss(outputs: Tensor, batch: Tensor) -> Tensor:
        return (outputs - draw()).square().mean()

    checkpoints = Kept(tmp_path, every=1)
    seed_everything(0)
    wanted = shrink(constant_job(small, loss), checkpoints)
    for file in (checkpoints.of("gate")[0], checkpoints.of("tune")[2]):
        seed_everything(1)
        found = shrink(constant_job(small, loss), Checkpoint(file, resume=True))
        assert_equal(found.part.captured, wanted.part.captured)


class Drift(Stage):
    """A stage that no other knows: it shifts one weight three times by sums of random numbers."""

    name = "drift"

    def begin(self, draft: Draft) -> None:
        self.draft, self.steps, self.total = draft, 0, 0.0

    @property
    def done(self) -> bool:
        return self.steps == 3

    def step(self) -> None:
        self.steps, self.total = self.steps + 1, self.total + random.random()
        with torch.no_grad():
            next(self.draft.part.captured.graph_module.parameters()).add_(self.total)

    def result(self) -> Draft:
        return self.draft

    def state(self) -> dict[str, Any]:
        return {"draft": self.draft.state(), "steps": self.steps, "total": self.total}

    def load(self, state: Mapping[str, Any]) -> None:
        self.draft = Draft.from_state(state["draft"], self.job.whole)
        self.steps, self.total = state["steps"], state["total"]


def test_every_stage_can_be_resumed_in_its_middle_and_at_its_end(small: Captured, tmp_path: Path) -> None:
    """Also one that the library does not know."""
    stages, checkpoints = [*STAGES, Drift], Kept(tmp_path, every=1)
    seed_everything(0)
    wanted = shrink(constant_job(small, square), checkpoints, stages)
    found = [name for name, _, _ in checkpoints.written]
    assert found == ["warm start", *["gate"] * 2, "repair", *["tune"] * 6, *["drift"] * 3]
    for stage in stages:
        for file in {checkpoints.of(stage.name)[0], checkpoints.of(stage.name)[-1]}:
            seed_everything(1)
            again = shrink(constant_job(small, square), Checkpoint(file, resume=True), stages)
            assert (again.widths, again.cost) == (wanted.widths, wanted.cost)
            assert_equal(again.part.captured, wanted.part.captured)


def test_the_end_of_a_stage_is_saved_at_whatever_step_it_falls(small: Captured, tmp_path: Path) -> None:
    checkpoints = Kept(tmp_path, every=5)
    shrink(constant_job(small, square), checkpoints)
    found = [(stage, step) for stage, step, _ in checkpoints.written]
    assert found == [("warm start", 0), ("gate", 2), ("repair", 2), ("tune", 5), ("tune", 8)]


def test_what_an_earlier_budget_has_left_can_be_resumed(captured: Captured, tmp_path: Path) -> None:
    """As a sweep goes on: the second fit starts from a part whose units are not numbered as the original's."""
    part = shrink(job(captured, "40%", 4)).part
    assert any(list(units) != list(range(len(units))) for units in part.kept.values())

    def second(checkpoint: Checkpoint) -> Draft:
        return shrink(replace(job(captured, "20%", 8), whole=part), checkpoint)

    checkpoints = Kept(tmp_path, every=3)
    seed_everything(0)
    wanted = second(checkpoints)
    for name in ("gate", "tune"):
        found = second(Checkpoint(checkpoints.of(name)[0], resume=True))
        assert found.part.kept == wanted.part.kept
        assert_equal(found.part.captured, wanted.part.captured)


def test_a_fit_that_is_finished_is_only_read(captured: Captured, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    first = fit(captured, steps=4, checkpoint=file)
    again = fit(captured, steps=4, checkpoint=file, resume=True, on_progress=stop_at(1))
    assert_equal(again.captured, first.captured)


def _write(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path)
    seal(path)


def test_what_cannot_be_resumed_is_refused(captured: Captured, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    with pytest.raises(InputError, match="name its checkpoint"):
        fit(captured, resume=True)
    with pytest.raises(InputError, match="there is no checkpoint"):
        fit(captured, checkpoint=file, resume=True)
    fit(captured, steps=4, checkpoint=file, checkpoint_every=2)
    with pytest.raises(InputError, match="of another fit: it differs in steps \\(30, it was 4\\): give what"):
        fit(captured, checkpoint=file, resume=True)
    _write({**torch.load(file), "stage": "drift"}, tmp_path / "later.pt")
    with pytest.raises(InputError, match="a stage 'drift' that this version does not have"):
        fit(captured, steps=4, checkpoint=tmp_path / "later.pt", resume=True)
    _write({"identity": torch.load(file)["identity"]}, file)
    previous(file).unlink()
    with pytest.raises(InputError, match="is not a checkpoint"):
        fit(captured, steps=4, checkpoint=file, resume=True)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a checkpoint"):
        fit(captured, checkpoint=file, resume=True)
