"""Measure a keyword spotter: error, accuracy and macro F1, in total and by signal-to-noise ratio."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sample_models.dscnn_kws.data import SNR_RANGE, Keywords
from sample_models.dscnn_kws.model import KEYWORDS
from sample_models.dscnn_kws.sample import SPOTTER, Spotter

VAL_SEED, VAL_DRAWS = 2023, 8  # 125 clips, each in eight noises
TEST_SEED, TEST_DRAWS = 2024, 10  # 210 clips, each in ten noises

Model = Callable[[Tensor], Tensor]
Fixed = list[tuple[Tensor, Tensor, Tensor]]


def fixed(data: str | Path, split: str, features: str) -> Fixed:
    """The items of 'val' or 'test' on which all models are measured: features, classes, SNR in dB."""
    seed, draws = (TEST_SEED, TEST_DRAWS) if split == "test" else (VAL_SEED, VAL_DRAWS)
    return Keywords(data, split, features, seed).fixed(draws)


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


def confusion(model: Model, items: Fixed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True class, class of the highest logit, and SNR in dB of every item: three arrays [items]."""
    with eval_mode(model):
        parts = [(y.numpy(), model(x).argmax(1).cpu().numpy(), snr.numpy()) for x, y, snr in items]
    true, found, snr = (np.concatenate(part) for part in zip(*parts, strict=True))
    return true, found, snr


def scores(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """{'error', 'accuracy', 'macro_f1'} in %; a keyword that is neither there nor found does not count for F1."""
    f1 = []
    for keyword in range(len(KEYWORDS)):
        hits, both = np.sum((true == keyword) & (found == keyword)), np.sum(true == keyword) + np.sum(found == keyword)
        f1 += [2.0 * hits / both] if both else []
    accuracy = 100.0 * float(np.mean(true == found))
    return {"error": 100.0 - accuracy, "accuracy": accuracy, "macro_f1": 100.0 * float(np.mean(f1))}


def measure(model: Model, items: Fixed) -> dict[str, float]:
    """{'error', 'accuracy', 'macro_f1'} in % on fixed items."""
    true, found, _ = confusion(model, items)
    return scores(true, found)


def report(model: Model, items: Fixed, bands: int = 4) -> str:
    """One line for all items, one for each band of SNR, and one for each keyword."""
    true, found, snr = confusion(model, items)
    edges = np.linspace(*SNR_RANGE, bands + 1)
    groups = {"all": np.full(len(true), True)}
    groups |= {f"{a:g} to {b:g} dB": (snr >= a) & (snr < b) for a, b in pairwise(edges)}
    lines = []
    for name, chosen in groups.items():
        values = scores(true[chosen], found[chosen])
        lines.append(f"{name:>14}  error {values['error']:5.2f} %  macro F1 {values['macro_f1']:5.2f} %")
    recall = [f"{word} {100 * np.mean(found[true == i] != i):.1f}" for i, word in enumerate(KEYWORDS)]
    return "\n".join([*lines, f"{'missed, %':>14}  " + ", ".join(recall)])


def main(spotter: Spotter, argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--model", type=Path, required=True, help="weights.safetensors, a .pt2, or the folder of a fit")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    print(report(_open(spotter, options.model), fixed(options.data, options.split, spotter.features)))


def _open(spotter: Spotter, path: Path) -> Model:
    """A model to call, whatever holds it."""
    if path.is_dir():
        path = path / "model.pt2"
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    model = spotter.factory()
    model.load_state_dict(load_file(path))
    return model.eval()


if __name__ == "__main__":
    main(SPOTTER)
