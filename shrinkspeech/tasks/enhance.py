"""Enhancement: noisy samples in, clean samples out."""

from __future__ import annotations

from collections.abc import Mapping
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
from shrinkspeech.tasks.reading import Observed

SLACK = 0.05
"""Outputs may be this much shorter or longer than the input: both are cut to the shorter."""

OPTIONAL = {"stoi": "pystoi", "pesq": "pesq"}
"""Metrics that need a package of their own."""


@dataclass
class Enhance(Task):
    """Negative SI-SDR; SI-SDR and its gain over the noisy input in dB, STOI and PESQ where their packages are there."""

    name = "enhance"
    kind = "clean"
    index: int = field(init=False, default=0)

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        if self.intake.frontend is not None:
            raise InputError("the task 'enhance' is for models that take and return samples: leave --features out")
        size, length = batch.x.shape
        for index, output in enumerate(observed.outputs):
            if _is_wave(output, size, length):
                self.index = index
                break
        else:
            raise InputError(
                f"the model returns {observed.text()}, where the task 'enhance' needs waveforms of {size}x{length}"
            )
        missing = [f"{name} ({package})" for name, package in OPTIONAL.items() if find_spec(package) is None]
        return (f"not measured, for want of the package: {', '.join(missing)}",) if missing else ()

    def waves(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Output, clean and noisy samples, each ``[B, S]``."""
        floats = [x for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point()]
        output = floats[self.index]
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
            for name, value in _optional(output, clean, self.intake.rate).items():
                sums.setdefault(name, []).append(value)
        return {name: float(torch.cat(values).mean()) for name, values in sums.items()}


def _is_wave(output: Tensor, size: int, length: int) -> bool:
    shape = tuple(output.shape)
    fits = len(shape) == 2 or (len(shape) == 3 and shape[1] == 1)
    return fits and shape[0] == size and abs(shape[-1] - length) <= SLACK * length


def _optional(output: Tensor, clean: Tensor, rate: int) -> dict[str, Tensor]:
    """STOI, and PESQ (narrow-band at 8 kHz, wide-band at 16 kHz), of each example."""
    found = {}
    if find_spec("pystoi") is not None:
        from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility

        found["stoi"] = short_time_objective_intelligibility(output, clean, rate).reshape(-1)
    if find_spec("pesq") is not None and rate in (8_000, 16_000):
        from torchmetrics.functional.audio.pesq import perceptual_evaluation_speech_quality

        mode = "wb" if rate == 16_000 else "nb"
        found["pesq"] = perceptual_evaluation_speech_quality(output, clean, rate, mode).reshape(-1)
    return found
