"""Detection measures against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shrinkspeech.errors import InputError
from shrinkspeech.tasks.metrics import (
    Verifier,
    auc,
    bootstrap_eer,
    eer,
    min_dcf,
    min_tdcf,
    rates,
    read_asv_scores,
    snr_bands,
)


def test_rates_by_hand() -> None:
    scores, positive = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 1, 0]).astype(bool)
    alarms, misses = rates(scores, positive)
    assert alarms == pytest.approx([0, 0, 0.5, 0.5, 0.5, 1])
    assert misses == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3, 0, 0])
    assert eer(scores, positive) == pytest.approx(50.0)
    assert auc(scores, positive) == pytest.approx(4 / 6)
    assert min_dcf(alarms, misses, 0.75, 0.25) == pytest.approx(0.125)
    assert min_dcf(alarms, misses, 0.95, 0.5, normalised=True) == pytest.approx(0.5)


def test_eer_is_interpolated_and_exact() -> None:
    labels = np.array([0, 0, 1, 1]).astype(bool)
    assert eer(np.array([1.0, 2, 3, 4]), labels) == 0
    assert eer(np.zeros(4), labels) == 50
    assert eer(np.array([4.0, 3, 2, 1]), labels) == 100
    # (0, 1/3) and (1/2, 1/3): misses equal false alarms at 1/3, between two thresholds
    assert eer(np.array([5.0, 4, 3, 2, 1]), np.array([1, 1, 0, 1, 0]).astype(bool)) == pytest.approx(100 / 3)
    # scores that a float32 sigmoid would make one
    assert auc(np.array([40.0, 41, 42, 43]), labels) == 1
    with pytest.raises(InputError, match="examples of both classes"):
        rates(np.zeros(3), np.ones(3, dtype=bool))


def test_bootstrap() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(200) % 2 == 1
    scores = rng.normal(size=200) + 2 * positive
    low, high = bootstrap_eer(scores, positive, 200)
    assert low < eer(scores, positive) < high
    assert 3 < high - low < 20
    assert bootstrap_eer(scores, positive, 200) == (low, high)


def test_tandem_cost(tmp_path: Path) -> None:
    """Against the formula of ASVspoof 2019 with its costs and priors."""
    verifier = Verifier(miss=0.05, false_alarm=0.05, spoof_miss=0.4)
    first = 0.95 * 0.99 * (1 - 0.05) - 0.95 * 0.01 * 10 * 0.05
    second = 10 * 0.05 * 0.6
    alarms, misses = np.array([0.0, 0.1, 1.0]), np.array([1.0, 0.2, 0.0])
    assert min_tdcf(alarms, misses, verifier) == pytest.approx((first * 0.2 + second * 0.1) / min(first, second))
    file = tmp_path / "asv.txt"
    lines = (
        [f"s target {x}" for x in (2, 3, 4, 5)]
        + [f"s nontarget {x}" for x in (-1, 0, 1, 2.5)]
        + ["s spoof 2", "s spoof 4"]
    )
    file.write_text("\n".join(lines))
    assert read_asv_scores(file) == Verifier(0.25, 0.25, 0.5)
    file.write_text("\n".join([*lines, "s spoof 2.5", "s spoof 1"]))  # one lies at the threshold, 2.5: it passes
    assert read_asv_scores(file) == Verifier(0.25, 0.25, 0.5)
    for text, said in (
        ("s target", "line 1: write 'id key score'"),
        ("s target 1\n", "no scores of the key 'nontarget'"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            read_asv_scores(file)


def test_snr_bands() -> None:
    assert snr_bands(-5, 20) == [(-5, 0), (0, 5), (5, 10), (10, 15), (15, 20)]
    assert snr_bands(-10, 25) == [(-10, 0), (0, 10), (10, 20), (20, 25)]
    assert snr_bands(3, 3) == []
