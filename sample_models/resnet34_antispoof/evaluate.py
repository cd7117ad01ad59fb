"""Measure the detector on fixed crops: equal error rate and area under the curve, over all clips and by system."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sample_models.crnn_vad.evaluate import eval_mode
from sample_models.crnn_vad.metrics import auc, eer
from sample_models.resnet34_antispoof.data import Clip, fixed_crops, front_end, read_clips
from sample_models.resnet34_antispoof.model import load
from shrinkspeech.tasks.metrics import bootstrap_eer

CROPS = 3  # of every clip: its start, its middle and its end
BATCH = 69  # crops, 23 clips
ROUNDS = 1_000  # of the bootstrap

Model = Callable[[Tensor], Tensor]


@cache
def fixed_features(folder: Path, split: str) -> Tensor:
    """Features of CROPS crops of every clip of a split: [clips * CROPS, FRAMES, COEFFICIENTS]."""
    waves = fixed_crops(read_clips(folder, split), CROPS)
    with torch.no_grad():
        return torch.cat([front_end()(part) for part in waves.split(BATCH)])


def clip_scores(model: Model, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits, averaged over the crops of a clip, and labels (True for bona fide): two arrays [clips]."""
    with eval_mode(model):
        logits = torch.cat([model(part).cpu() for part in fixed_features(folder, split).split(BATCH)])
    scores = logits.reshape(-1, CROPS).mean(1).double().numpy()
    return scores, np.array([clip.bonafide for clip in read_clips(folder, split)])


def measure(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return {'eer': %, 'auc': 0 to 1} of clip scores."""
    return {"eer": eer(scores, labels), "auc": auc(scores, labels)}


def by_system(scores: np.ndarray, labels: np.ndarray, clips: tuple[Clip, ...]) -> dict[str, dict[str, float]]:
    """Measures of each system's spoofs against all bona fide clips."""
    systems = np.array([clip.system for clip in clips])
    results = {}
    for system in sorted(set(systems[~labels])):
        chosen = labels | (systems == system)
        results[str(system)] = measure(scores[chosen], labels[chosen])
    return results


def same_source(scores: np.ndarray, labels: np.ndarray, clips: tuple[Clip, ...]) -> dict[str, dict[str, float]]:
    """Measures within each system that has both classes: the same recordings before and after synthesis."""
    systems = np.array([clip.system for clip in clips])
    results = {}
    for system in sorted(set(systems[labels]) & set(systems[~labels])):
        chosen = systems == system
        results[str(system)] = measure(scores[chosen], labels[chosen])
    return results


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with spoof.csv")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    clips = read_clips(options.data, options.split)
    scores, labels = clip_scores(load(options.weights), options.data, options.split)
    low, high = bootstrap_eer(scores, labels, ROUNDS)
    results = {"all": measure(scores, labels)}
    results |= {f"{name} against all bona fide": m for name, m in by_system(scores, labels, clips).items()}
    results |= {f"{name} alone": m for name, m in same_source(scores, labels, clips).items()}
    for name, m in results.items():
        print(f"{name:>40}  EER {m['eer']:5.2f} %  AUC {m['auc']:.4f}")
    print(f"95 % interval of the EER over clips: {low:.2f} to {high:.2f} %")


if __name__ == "__main__":
    main()
