"""The stages of a fit, one after the other, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence

from shrinkspeech.errors import NotFiniteError
from shrinkspeech.fitting.checkpoint import Checkpoint
from shrinkspeech.fitting.stages.gate import Gate
from shrinkspeech.fitting.stages.repair import Repair
from shrinkspeech.fitting.stages.stage import Draft, Job, Stage
from shrinkspeech.fitting.stages.tune import Tune
from shrinkspeech.fitting.stages.warm_start import WarmStart

STAGES: Sequence[type[Stage]] = (WarmStart, Gate, Repair, Tune)
"""The stages of a fit, in their order."""


def shrink(job: Job, checkpoint: Checkpoint | None = None, stages: Sequence[type[Stage]] = STAGES) -> Draft:
    """Run all stages, or those that are left of an earlier run; what the last one leaves is the result.

    Raises:
        NotFiniteError: numbers were not finite, though the fit has gone back to good ones.
        Stopped: a signal has asked for it.
    """
    draft, checkpoint = job.draft(), checkpoint or Checkpoint()
    try:
        for kind in checkpoint.left(stages):
            stage = kind(job)
            if not checkpoint.restore(stage, job.trainer):
                stage.begin(draft)
            checkpoint.begin(stage, job.trainer)
            while not stage.done:
                _step(stage, job, checkpoint)
            draft = stage.result()
    except BaseException:
        checkpoint.rescue()
        raise
    return draft


def _step(stage: Stage, job: Job, checkpoint: Checkpoint) -> None:
    try:
        with checkpoint.running(stage):
            stage.step()
    except NotFiniteError as error:
        checkpoint.go_back(stage, job.trainer, error)
    checkpoint.save(stage, job.trainer)
