"""Detection measures that torchmetrics lacks or rounds: exact for any number of scores, with ties, and interpolated.

``torchmetrics.functional.classification.binary_eer`` takes the nearest threshold instead of the crossing, and squeezes scores
through a float32 sigmoid first, which makes ties of large ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_auroc

from shrinkspeech.errors import InputError

Floats = NDArray[np.float64]


def rates(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """False alarm and miss rates at every threshold, from none accepted (0, 1) to all accepted (1, 0).

    Args:
        scores: any shape, higher means positive.
        positive: same shape.

    Raises:
        InputError: one of the two classes is not there.
    """
    scores, positive = np.ravel(scores), np.ravel(positive).astype(bool)
    if positive.all() or not positive.any():
        raise InputError("an error rate needs examples of both classes to validate on: one of them is missing")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)  # the last of each group of ties
    detections = np.cumsum(positive[order])[ends]
    alarms = ends + 1 - detections
    false_alarms = np.append(0, alarms) / alarms[-1]
    return false_alarms, 1.0 - np.append(0, detections) / detections[-1]


def eer(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Equal error rate in %: where misses equal false alarms, interpolated between thresholds."""
    return eer_of(*rates(scores, positive))


def eer_of(false_alarms: Floats, misses: Floats) -> float:
    """Equal error rate in % of two curves as ``rates`` returns them."""
    gap = false_alarms - misses  # rises from −1 to 1
    after = int(np.argmax(gap >= 0.0))
    weight = gap[after] / (gap[after] - gap[after - 1])
    return 100.0 * float(false_alarms[after] - weight * (false_alarms[after] - false_alarms[after - 1]))


def auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Area under the receiver operating curve, 0 to 1; ties count half."""
    ranks = np.unique(np.ravel(scores), return_inverse=True)[1]  # in 0..1, so that torchmetrics takes them as they are
    scaled = torch.from_numpy(ranks / max(int(ranks.max()), 1))
    return float(binary_auroc(scaled, torch.from_numpy(np.ravel(positive).astype(np.int64))))


def min_dcf(
    false_alarms: Floats, misses: Floats, miss: float, false_alarm: float, *, normalised: bool = False
) -> float:
    """Lowest detection cost over thresholds.

    Args:
        miss: cost of a miss times how often there is something to miss.
        false_alarm: cost of a false alarm times how often there is none.
        normalised: relative to the cheaper of accepting all and accepting none.
    """
    lowest = float(np.min(miss * misses + false_alarm * false_alarms))
    return lowest / min(miss, false_alarm) if normalised else lowest


def bootstrap_eer(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], rounds: int, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the equal error rate in %: examples of each class drawn anew with replacement."""
    rng = np.random.default_rng(seed)
    yes, no = np.ravel(scores)[np.ravel(positive)], np.ravel(scores)[~np.ravel(positive)]
    labels = np.arange(yes.size + no.size) < yes.size
    drawn = [eer(np.concatenate([rng.choice(yes, yes.size), rng.choice(no, no.size)]), labels) for _ in range(rounds)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Verifier:
    """Shares of targets refused, others accepted and spoofs refused by a speaker verifier at its equal error threshold."""

    miss: float
    false_alarm: float
    spoof_miss: float


def read_asv_scores(path: str | Path) -> Verifier:
    """Error rates from a file of scores in the form of ASVspoof 2019: ``id key score``, key target, nontarget or spoof.

    Raises:
        InputError: it is missing, or a line is not of that form, or a key never comes.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no file {file} for --asv-scores")
    found: dict[str, list[float]] = {"target": [], "nontarget": [], "spoof": []}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        try:
            found[parts[-2]].append(float(parts[-1]))
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(f"{file}, line {number}: write 'id key score', key target, nontarget or spoof") from error
    for key, values in found.items():
        if not values:
            raise InputError(f"{file} has no scores of the key '{key}': target, nontarget and spoof are needed")
    target, other, spoof = (np.array(found[key]) for key in ("target", "nontarget", "spoof"))
    thresholds = np.unique(np.concatenate([target, other]))
    misses = np.searchsorted(np.sort(target), thresholds) / target.size
    alarms = 1.0 - np.searchsorted(np.sort(other), thresholds) / other.size
    best = int(np.argmin(np.abs(misses - alarms)))
    return Verifier(float(misses[best]), float(alarms[best]), float(np.mean(spoof < thresholds[best])))


def min_tdcf(false_alarms: Floats, misses: Floats, verifier: Verifier) -> float:
    """Lowest normalised tandem detection cost, with the costs and priors of ASVspoof 2019.

    Args:
        false_alarms: share of spoofs taken for bona fide, at each threshold.
        misses: share of bona fide taken for spoofs.

    Raises:
        InputError: the verifier is too bad for the cost to mean anything.
    """
    spoofs, cost_miss, cost_alarm = 0.05, 1.0, 10.0
    targets, others = (1 - spoofs) * 0.99, (1 - spoofs) * 0.01
    first = targets * (cost_miss - cost_miss * verifier.miss) - others * cost_alarm * verifier.false_alarm
    second = cost_alarm * spoofs * (1 - verifier.spoof_miss)
    if first <= 0 or second <= 0:
        raise InputError(
            "the speaker verifier of --asv-scores errs too often, or lets no spoof pass: a tandem cost means nothing"
        )
    return min_dcf(false_alarms, misses, first, second, normalised=True)


def snr_bands(low: float, high: float) -> list[tuple[float, float]]:
    """Ranges of 5 dB (10 where there would be more than six), the last one closed at its end."""
    step = 5.0 if high - low <= 30 else 10.0
    edges = [*np.arange(low, high, step).tolist(), high]
    return list(pairwise(edges)) if high > low else []
