"""Measure the detector: equal error rate and area under the curve, in total and by signal-to-noise ratio."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sample_models.crnn_vad.evaluate import TEST_MIXTURES, TEST_SEED, VAL_MIXTURES, VAL_SEED, format_report
from sample_models.crnn_vad.evaluate import report as of_mixtures
from sample_models.transformer_vad.data import fixed
from sample_models.transformer_vad.model import load

SPLITS = {"val": (VAL_SEED, VAL_MIXTURES), "test": (TEST_SEED, TEST_MIXTURES)}


def report(model: Callable[[Tensor], Tensor], data_dir: Path, split: str) -> dict[str, dict[str, float]]:
    """{'eer': %, 'auc': 0 to 1} over all frames of the fixed mixtures ('all') and of those in each SNR band, by name."""
    return of_mixtures(model, fixed(data_dir, split, *SPLITS[split]))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file")
    parser.add_argument("--split", choices=tuple(SPLITS), default="test")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    print(format_report(report(load(options.weights), options.data, options.split)))


if __name__ == "__main__":
    main()
