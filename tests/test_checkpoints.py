"""A fit that was interrupted goes on bit by bit where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.fitting.settings import Progress, Settings
from shrinkspeech.graph.captured import Captured
from tests.detector import RECIPE, SECONDS, Detector


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Detector().eval(), (torch.randn(2, 12, 50),))


def fit(captured: Captured, **options: Any) -> Any:
    settings = Settings(warm_start=3.0, reslice=0.9)
    return shrinkspeech.fit(
        captured, RECIPE, "15%", **{"steps": 30, "seconds": SECONDS, "settings": settings, **options}
    )


@pytest.mark.parametrize("step", [4, 11, 14, 23])
def test_resume(captured: Captured, tmp_path: Path, step: int) -> None:
    """Stopped while widths fall, at the last gated step but one, and while tuning; checkpoints are every two steps."""

    def stop(now: Progress) -> None:
        if now.step == step:
            raise Stopped

    whole = fit(captured)
    file = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        fit(captured, checkpoint=file, checkpoint_every=2, on_progress=stop)
    torch.manual_seed(99)
    seen: list[int] = []
    resumed = fit(captured, checkpoint=file, resume=True, on_progress=lambda now: seen.append(now.step))
    assert seen[0] == (step - 1) // 2 * 2 + 1
    assert resumed.widths == whole.widths
    assert resumed.kept == whole.kept
    small = resumed.captured.parameters()
    assert all(torch.equal(tensor, small[name]) for name, tensor in whole.captured.parameters().items())
    assert resumed.report.metrics_after == whole.report.metrics_after


def test_what_cannot_be_resumed_is_refused(captured: Captured, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    with pytest.raises(InputError, match="name its checkpoint"):
        fit(captured, resume=True)
    with pytest.raises(InputError, match="there is no checkpoint"):
        fit(captured, checkpoint=file, resume=True)
    fit(captured, steps=4, checkpoint=file, checkpoint_every=2)
    with pytest.raises(InputError, match="of another fit: it differs in options"):
        fit(captured, checkpoint=file, resume=True)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a checkpoint"):
        fit(captured, checkpoint=file, resume=True)
