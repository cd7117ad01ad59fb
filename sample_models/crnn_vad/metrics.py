"""Threshold-free detection measures, exact for any number of scores and with ties."""

from __future__ import annotations

import numpy as np


def roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False alarm and detection rates at every distinct threshold, from (0, 0) to (1, 1).

    scores: any shape, higher means positive; labels: same shape, above 0.5 means positive.
    """
    scores, positive = np.ravel(scores), np.ravel(labels) > 0.5
    if scores.shape != positive.shape or positive.all() or not positive.any():
        raise ValueError("scores and labels must match in size and hold both classes")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)  # last of each group of ties
    detections = np.cumsum(positive[order])[ends]
    false_alarms = ends + 1 - detections
    rates = (np.append(0, count) / count[-1] for count in (false_alarms, detections))
    return next(rates), next(rates)


def eer(scores: np.ndarray, labels: np.ndarray) -> float:
    """Equal error rate in %: where misses equal false alarms, interpolated between thresholds."""
    false_alarms, detections = roc(scores, labels)
    gap = false_alarms - (1.0 - detections)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0.0))
    weight = gap[after] / (gap[after] - gap[after - 1])
    return 100.0 * float(false_alarms[after] - weight * (false_alarms[after] - false_alarms[after - 1]))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the receiver operating curve, 0 to 1; ties count half."""
    false_alarms, detections = roc(scores, labels)
    return float(np.trapezoid(detections, false_alarms))


def sanity_check() -> None:
    """Check known cases."""
    labels = np.array([0, 0, 1, 1])
    assert eer(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 0.0
    assert eer(np.array([4.0, 3.0, 2.0, 1.0]), labels) == 100.0
    assert eer(np.zeros(4), labels) == 50.0
    assert auc(np.zeros(4), labels) == 0.5
    assert eer(np.array([1.0, 3.0, 2.0, 4.0]), labels) == 50.0
    assert auc(np.array([1.0, 3.0, 2.0, 4.0]), labels) == 0.75
    rng = np.random.default_rng(0)
    labels = np.arange(400_000) % 2
    scores = rng.normal(size=labels.size) + 2.0 * labels  # equal error rate of two unit normals: Phi(-1)
    assert abs(eer(scores, labels) - 15.866) < 0.2
    assert abs(auc(scores, labels) - 0.92135) < 0.002


if __name__ == "__main__":
    sanity_check()
    print("ok")
