"""Enhancement: noisy samples in, clean samples out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as si_sdr

from shrinkspeech.data.items import Batch
from shrinkspeech.errors import InputError
from shrinkspeech.tasks.base import Task
from shrinkspeech.tasks.outputs import Observed, Output
from shrinkspeech.tasks.reading import Need, best_output, taken
from shrinkspeech.tasks.registry import task

SLACK = 0.05
"""Outputs may be this much shorter or longer than the input: both are cut to the shorter."""

OPTIONAL = {"stoi": "pystoi", "pesq": "pesq"}
"""Metrics that need a package of their own."""


@task("enhance")
@dataclass
class Enhance(Task):
    """Negative SI-SDR; SI-SDR and its gain over the noisy input in dB, STOI and PESQ where their packages are there."""

    kind = "clean"
    index: int = field(init=False, default=0)

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        if self.intake.frontend is not None:
            raise InputError("the task 'enhance' is for models that take and return samples: leave --features out")
        size, length = batch.x.shape
        need = Need(f"'{self.name}'", f"waveforms of {size}x{length}", self.options.model_output)
        waves = {x.number: int(bool(x.times)) for x in observed.outputs if _is_wave(x, size, length)}
        output = best_output(observed, waves, need)
        self.index = output.number
        notes = taken(observed, output, "samples of the input's length", need.chosen)
        missing = [f"{name} ({package})" for name, package in OPTIONAL.items() if find_spec(package) is None]
        return (*notes, *([f"not measured, for want of the package: {', '.join(missing)}"] if missing else ()))

    def waves(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Output, clean and noisy samples, each ``[B, S]``."""
        output: Tensor = tree_leaves(outputs)[self.index]
        output = output.reshape(output.shape[0], output.shape[-1])
        length = min(output.shape[1], batch.target.shape[1])
        return output[:, :length], batch.target[:, :length], batch.x[:, :length]

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        output, clean, _ = self.waves(outputs, batch)
        return -si_sdr(output, clean).mean()

    def evaluate(self, model: Any) -> Mapping[str, float]:
        sums: dict[str, list[Tensor]] = {}
        for outputs, batch in self.results(model):
            output, clean, noisy = self.waves(outputs, batch)
            after = si_sdr(output, clean)
            sums.setdefault("si_sdr", []).append(after)
            sums.setdefault("si_sdr_gain", []).append(after - si_sdr(noisy, clean))
            for name, value in extra_metrics(output, clean, self.intake.rate).items():
                sums.setdefault(name, []).append(value)
        joined = {name: torch.cat(values) for name, values in sums.items()}
        return {name: float(values.mean()) for name, values in joined.items() if len(values)}


def _is_wave(output: Output, size: int, length: int) -> bool:
    shape = output.shape
    fits = len(shape) == 2 or (len(shape) == 3 and shape[1] == 1)
    return fits and shape[0] == size and abs(shape[-1] - length) <= SLACK * length


def extra_metrics(output: Tensor, clean: Tensor, rate: int) -> dict[str, Tensor]:
    """STOI, and PESQ (narrow-band at 8 kHz, wide-band at 16 kHz), of the examples ``[B, S]`` that they can judge."""
    found = {}
    if find_spec("pystoi") is not None:
        from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility

        found["stoi"] = _judged(lambda x, y: short_time_objective_intelligibility(x, y, rate), output, clean)
    if find_spec("pesq") is not None and rate in (8_000, 16_000):
        from pesq import PesqError
        from torchmetrics.functional.audio.pesq import perceptual_evaluation_speech_quality

        mode = "wb" if rate == 16_000 else "nb"
        found["pesq"] = _judged(
            lambda x, y: perceptual_evaluation_speech_quality(x, y, rate, mode), output, clean, PesqError
        )
    return found


def _judged(
    measure: Callable[[Tensor, Tensor], Tensor], output: Tensor, clean: Tensor, *refused: type[Exception]
) -> Tensor:
    """Of each example, but for those that are silent, or refused or warned about because they are too short."""
    values = []
    for x, y in zip(output, clean, strict=True):
        if not (x.any() and y.any()):
            continue
        with suppress(RuntimeWarning, *refused), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            values.append(measure(x, y).reshape(()))
    return torch.stack(values) if values else torch.empty(0)
