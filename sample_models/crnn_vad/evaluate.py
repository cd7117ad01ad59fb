"""Measure the detector: equal error rate and area under the curve, in total and by signal-to-noise ratio."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sample_models.crnn_vad.data import Batch, Measured, Mixtures
from sample_models.crnn_vad.metrics import auc, eer
from sample_models.crnn_vad.model import load

TEST_SEED = 2024
TEST_MIXTURES = 1_200
VAL_SEED = 2023
VAL_MIXTURES = 300
SNR_BANDS = ((-5, 0), (0, 5), (5, 10), (10, 20))  # dB


@contextlib.contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Eval mode without gradients, then each submodule back as it was; other callables are left alone."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    with torch.no_grad():
        for module, _ in modes:
            module.training = False
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def frame_scores(model: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of all frames: two arrays [mixtures, frames]."""
    with eval_mode(model):
        pairs = [(model(wave).cpu().numpy(), labels.numpy()) for wave, labels in batches]
    scores, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return scores, labels


def measure(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return {'eer': %, 'auc': 0 to 1} of frame scores."""
    return {"eer": eer(scores, labels), "auc": auc(scores, labels)}


def report(model: Callable[[Tensor], Tensor], batches: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Measures on fixed mixtures of known SNR: of 'all', and of those in each SNR band, by name."""
    scores, labels = frame_scores(model, [(wave, label) for wave, label, _ in batches])
    snr = np.concatenate([values.numpy() for _, _, values in batches])
    results = {"all": measure(scores, labels)}
    for low, high in SNR_BANDS:
        chosen = (snr >= low) & (snr < high)
        results[f"{low} to {high} dB"] = measure(scores[chosen], labels[chosen])
    return results


def flat(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """'eer' and 'auc' of all mixtures, and the EER of each band as 'eer_-5_to_0_dB' and so on."""
    return {**results["all"], **{key(name): found["eer"] for name, found in results.items() if name != "all"}}


def key(name: str) -> str:
    """What `flat` calls the EER of a band."""
    return f"eer_{name.replace(' ', '_')}"


def format_report(results: dict[str, dict[str, float]]) -> str:
    """One line for each group of mixtures."""
    return "\n".join(f"{name:>12}  EER {m['eer']:5.2f} %  AUC {m['auc']:.4f}" for name, m in results.items())


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--mixtures", type=int, default=None, help="default 1200 for test, 300 for val")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    is_test = options.split == "test"
    mixtures = Mixtures(options.data, options.split, TEST_SEED if is_test else VAL_SEED)
    count = options.mixtures or (TEST_MIXTURES if is_test else VAL_MIXTURES)
    print(format_report(report(load(options.weights), mixtures.fixed_with_snr(count))))


if __name__ == "__main__":
    main()
