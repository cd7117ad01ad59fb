"""Voice activity: EER against FLOP/s of a recurrent and an attention detector, in total and by range of SNR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from benchmarks.case_studies.making import Small
from benchmarks.case_studies.rows import Fit
from benchmarks.quality.cases import Case

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


@cache
def _mixtures() -> Any:
    """The fixed test mixtures of crnn_vad, kept in memory."""
    from sample_models.crnn_vad import evaluate as ev
    from sample_models.crnn_vad.data import Mixtures

    class Kept(Mixtures):
        @cache  # noqa: B019
        def fixed_with_snr(self, n: int, batch_size: int = 30) -> Any:
            return super().fixed_with_snr(n, batch_size)

    return Kept(Case("crnn_vad").recipe.data_dir(), "test", ev.TEST_SEED)


def eers(model: str, small: Small) -> Mapping[str, float]:
    """EER in % on the test mixtures: of ``all``, and of each range of SNR."""
    if model == "transformer_vad":
        found: Mapping[str, float] = Case(model).recipe.by_snr(small.module)
        return found
    from sample_models.crnn_vad import evaluate as ev

    return {name: measured["eer"] for name, measured in ev.report(small.module, _mixtures(), ev.TEST_MIXTURES).items()}


def test(model: str, small: Small) -> dict[str, str]:
    """EERs, and the mel bands that are kept (empty where all stay)."""
    found = eers(model, small)
    row = {"eer": f"{found['all']:.4f}", **{name: f"{found[name]:.4f}" for name in RANGES}}
    return {**row, "bands": " ".join(map(str, small.kept.get(BANDS, ())))}
