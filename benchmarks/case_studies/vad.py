"""Voice activity: EER against FLOP/s of a recurrent and an attention detector, in total and by range of SNR."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.case_studies.making import Small
from benchmarks.case_studies.rows import Fit
from benchmarks.quality.cases import Case
from sample_models.crnn_vad.evaluate import key

MODELS = ("crnn_vad", "transformer_vad")
BUDGETS = ("100%", "50%", "25%", "12.5%", "6.25%")
RANGES = ("-5 to 0 dB", "0 to 5 dB", "5 to 10 dB", "10 to 20 dB")
BANDS = "features"  # the transformer's group of mel bands


def plan() -> Iterator[Fit]:
    """Both detectors at each budget, one seed."""
    for budget in BUDGETS:
        for model in MODELS:
            recipe = Case(model).recipe
            if budget == "100%":
                yield Fit(model, "all", budget, 0, 0, 0.0)
            else:
                yield Fit(model, "all", budget, 0, recipe.STEPS, recipe.RATE)


def only(fit: Fit) -> tuple[str, ...]:
    """Nothing is held back."""
    return ()


def test(model: str, small: Small) -> dict[str, str]:
    """EERs in % on the test mixtures, of all and of each range of SNR, and the mel bands that are kept (empty: all)."""
    found = Case(model).recipe.test(small.module)
    row = {"eer": f"{found['eer']:.4f}", **{name: f"{found[key(name)]:.4f}" for name in RANGES}}
    return {**row, "bands": " ".join(map(str, small.kept.get(BANDS, ())))}
