"""Voice activity: one score for each frame, or for each clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from shrinkspeech.data.items import Batch
from shrinkspeech.tasks.base import Task
from shrinkspeech.tasks.metrics import auc, eer_of, min_dcf, rates, snr_bands
from shrinkspeech.tasks.outputs import Observed
from shrinkspeech.tasks.reading import Need, Rank, Reading, Way, find_reading
from shrinkspeech.tasks.registry import task

MISS, FALSE_ALARM = 0.75, 0.25
"""Weights of the detection cost of NIST OpenSAT."""


@task("vad")
@dataclass
class Vad(Task):
    """Frame-wise binary cross-entropy; equal error rate (%), area under the curve, minimum detection cost."""

    kind = "speech"
    reading: Reading = field(init=False)

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        size = len(batch.x)
        shapes = f"{size}xT, {size}xTx1 or {size}xTx2 with T frames (or {size}x1 and {size}x2 for whole clips)"
        need = Need(f"'{self.name}'", shapes, self.options.model_output)
        self.reading, notes = find_reading(observed, rank, (1, 2), need, self.options.outputs_are)
        if self.reading.time is None:
            read = f"the model gives one {self.reading.kind} for each clip: it is speech if at least half of it is"
        else:
            frames, hop = self.reading.shape[self.reading.time], 1000 * self.reading.hop
            read = f"the model gives {frames} frames, {hop:.4g} ms apart, of speech as {self.reading.kind}"
        return (*notes, read)

    def scores(self, outputs: Any) -> Tensor:
        """Logits of speech ``[B, T]``."""
        values = self.reading.scores(outputs)
        return values[..., 0] if values.shape[-1] == 1 else values[..., 1] - values[..., 0]

    def labels(self, tracks: Tensor, frames: int) -> Tensor:
        """Speech tracks at the times of the model's frames: 0 or 1, ``[B, T]``."""
        if self.reading.time is None:
            return (tracks.mean(1, keepdim=True) >= 0.5).to(tracks.dtype)
        return tracks[:, self.reading.ticks(frames).to(tracks.device)]

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        scores = self.scores(outputs)
        return F.binary_cross_entropy_with_logits(scores, self.labels(batch.target, scores.shape[1]).to(scores.dtype))

    def evaluate(self, model: Any) -> Mapping[str, float]:
        parts = []
        for outputs, batch in self.results(model):
            logits = self.scores(outputs)
            parts.append((logits, self.labels(batch.target, logits.shape[1]) > 0.5, batch.snr))
        columns: list[np.ndarray] = [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
        scores, speech, snr = columns
        alarms, misses = rates(scores, speech)
        found = {
            "eer": eer_of(alarms, misses),
            "auc": auc(scores, speech),
            "min_dcf": min_dcf(alarms, misses, MISS, FALSE_ALARM),
        }
        return {**found, **self._by_snr(scores, speech, snr)}

    def _by_snr(self, scores: np.ndarray, speech: np.ndarray, snr: np.ndarray) -> dict[str, float]:
        """Equal error rate in each range of signal-to-noise ratios that has both classes."""
        found = {}
        low, high = self.source.options.snr
        for start, end in snr_bands(low, high):
            inside = (snr >= start) & ((snr < end) | ((end == high) & (snr == end)))
            chosen = speech[inside]
            if chosen.any() and not chosen.all():
                found[f"eer {start:g} to {end:g} dB"] = eer_of(*rates(scores[inside], chosen))
        return found


def rank(way: Way) -> Rank:
    """Frames that follow the length, then frames of two classes, then clips of two; one value may be frames or a clip."""
    if way.proved:
        return 3
    if way.classes is None:
        return 0
    return 1 if way.time is None else 2
