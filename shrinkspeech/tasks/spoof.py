"""Bona fide speech against spoofed speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shrinkspeech.data.items import Batch
from shrinkspeech.errors import InputError
from shrinkspeech.tasks.classify import Classify
from shrinkspeech.tasks.metrics import (
    Verifier,
    bootstrap_eer,
    eer_of,
    min_dcf,
    min_tdcf,
    rates,
    read_asv_scores,
)
from shrinkspeech.tasks.outputs import Observed
from shrinkspeech.tasks.registry import task

GENUINE = frozenset(("bonafide", "bona-fide", "bona_fide", "bona fide", "genuine", "real", "human", "natural", "live"))
SPOOFS = 0.05
MISS, FALSE_ALARM = 1.0, 10.0
"""Share of spoofs, cost of refusing bona fide speech and of accepting a spoof, as in ASVspoof 5."""


@task("spoof")
@dataclass
class Spoof(Classify):
    """Weighted cross entropy of two classes; equal error rate (%) with its interval, and a detection cost."""

    genuine: int = field(init=False, default=1)
    verifier: Verifier | None = field(init=False, default=None)

    @property
    def balanced(self) -> bool:
        return self.options.balanced is not False

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        labels = self.source.labels
        if len(labels) != 2:
            raise InputError(
                f"the task 'spoof' needs two labels, not {len(labels)} ({', '.join(labels)}): choose rows with --where"
            )
        named = [i for i, label in enumerate(labels) if label.lower() in GENUINE]
        if len(named) != 1:
            raise InputError(f"cannot tell which of the labels {' and '.join(labels)} is bona fide: call it 'bonafide'")
        self.genuine = named[0]
        if self.source.options.labels is None:
            self.high = self.genuine  # the field's scores are high for bona fide speech
        notes = super().prepare(observed, batch)
        if self.options.asv_scores is None:
            return (
                *notes,
                "min_dcf stands for the tandem cost, which needs scores of a speaker verifier (--asv-scores)",
            )
        self.verifier = read_asv_scores(self.options.asv_scores)
        return notes

    def _more(self, observed: Observed) -> str:
        return ""  # there are two labels, whatever the model has

    def evaluate(self, model: Any) -> Mapping[str, float]:
        logits, target = self.all_logits(model)
        scores = (logits[:, self.genuine] - logits[:, 1 - self.genuine]).double().numpy()
        genuine = (target == self.genuine).numpy()
        alarms, misses = rates(scores, genuine)
        low, high = bootstrap_eer(scores, genuine, self.options.rounds)
        found = {"eer": eer_of(alarms, misses), "eer_low": low, "eer_high": high}
        if self.verifier is not None:
            return {**found, "min_tdcf": min_tdcf(alarms, misses, self.verifier)}
        cost = min_dcf(alarms, misses, MISS * (1 - SPOOFS), FALSE_ALARM * SPOOFS, normalised=True)
        return {**found, "min_dcf": cost}
