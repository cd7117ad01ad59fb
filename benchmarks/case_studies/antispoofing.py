"""Anti-spoofing: EER of a ResNet34 against FLOP/s, all of it and one residual stage at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from benchmarks.case_studies.making import Small
from benchmarks.case_studies.rows import Fit
from benchmarks.quality.cases import Case
from sample_models.crnn_vad.metrics import auc, eer
from shrinkspeech.tasks.metrics import bootstrap_eer

MODEL = "resnet34_antispoof"
STAGES = {
    "stage 1": ("stem.0", "stages.[0-2].conv?"),
    "stage 2": ("stages.[3-6].conv?",),
    "stage 3": ("stages.[7-9].conv?", "stages.1[0-2].conv?"),
    "stage 4": ("stages.1[3-5].conv?",),
}
"""Globs of the groups of each stage: its trunk and the inner width of each block. ``stem.0`` is the trunk of stage 1;
a glob such as ``stages.[3-6].*`` would also name that trunk, whose weights the next stage reads."""
QUESTION = "16%"
BUDGETS = ("50%", "25%", QUESTION, "12.5%")
SEEDS = (0, 1, 2, 3, 4)  # at QUESTION; 0 alone elsewhere
ROUNDS = 1_000  # of each bootstrap

Scores = tuple[np.ndarray, np.ndarray]


def plan() -> Iterator[Fit]:
    """The original, all stages at each budget, more seeds at the budget of the question, and each stage alone."""
    recipe = Case(MODEL).recipe
    yield Fit(MODEL, "all", "100%", 0, 0, 0.0)
    yield from (Fit(MODEL, "all", QUESTION, seed, recipe.STEPS, recipe.RATE) for seed in SEEDS)
    yield from (Fit(MODEL, "all", budget, 0, recipe.STEPS, recipe.RATE) for budget in BUDGETS)
    for name in ("quarter", "half"):
        yield from (Fit(MODEL, stage, name, 0, recipe.STEPS, recipe.RATE) for stage in STAGES)


def only(fit: Fit) -> tuple[str, ...]:
    """The groups that may shrink."""
    return STAGES.get(fit.part, ())


@cache
def original(split: str) -> Scores:
    """Scores and labels of the clips of a split by the original."""
    return scores(Small(Case(MODEL).captured(), {}), split)


def scores(small: Small, split: str) -> Scores:
    """Scores and labels of the clips of a split: two arrays [clips]."""
    from sample_models.resnet34_antispoof import evaluate as ev

    found: Scores = ev.clip_scores(small.module, Case(MODEL).recipe.data_dir(), split)
    return found


def change(found: Scores, before: Scores, rounds: int = ROUNDS) -> tuple[float, float]:
    """95 % interval of the change of the EER in %, both models on the same clips, each class drawn anew."""
    labels = found[1]
    yes, no = np.flatnonzero(labels), np.flatnonzero(~labels)
    rng = np.random.default_rng(0)
    changes = []
    for _ in range(rounds):
        drawn = np.concatenate([rng.choice(yes, yes.size), rng.choice(no, no.size)])
        changes.append(eer(found[0][drawn], labels[drawn]) - eer(before[0][drawn], labels[drawn]))
    low, high = np.quantile(changes, (0.025, 0.975))
    return float(low), float(high)


def test(model: str, small: Small) -> dict[str, str]:
    """On test and val: EER and AUC, the interval of the EER, and that of its change from the original."""
    row: dict[str, str] = {}
    for split in ("test", "val"):
        found = scores(small, split)
        low, high = bootstrap_eer(*found, ROUNDS)
        less, more = change(found, original(split))
        numbers = {"eer": eer(*found), "low": low, "high": high, "less": less, "more": more, "auc": auc(*found)}
        row |= {f"{split}_{name}": f"{number:.4f}" for name, number in numbers.items()}
    return row
