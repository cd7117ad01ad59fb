"""Measure the enhancer: SI-SDR and its gain over the noisy input, in total and by signal-to-noise ratio."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from sample_models.crnn_vad.evaluate import eval_mode
from sample_models.gru_enhance.data import Mixtures
from sample_models.gru_enhance.model import load

VAL_SEED, VAL_MIXTURES = 2023, 240
TEST_SEED, TEST_MIXTURES = 2024, 480
SNR_BANDS = ((-5, 0), (0, 5), (5, 10), (10, 15))  # dB

Fixed = tuple[Tensor, Tensor, Tensor]  # noisy, clean, SNR


def si_sdr(estimate: Tensor, clean: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB: [B, samples] twice -> [B]."""
    scale = (estimate * clean).sum(-1, keepdim=True) / clean.square().sum(-1, keepdim=True).clamp_min(1e-8)
    target = scale * clean
    ratio = target.square().sum(-1) / (estimate - target).square().sum(-1).clamp_min(1e-8)
    return 10.0 * torch.log10(ratio.clamp_min(1e-8))


def ratios(model: Callable[[Tensor], Tensor], batches: Iterable[Fixed]) -> tuple[Tensor, Tensor, Tensor]:
    """SI-SDR of the output, its gain over that of the input, and the SNR, in dB: [mixtures] each."""
    with eval_mode(model if isinstance(model, nn.Module) else None):
        found = [(si_sdr(model(noisy), clean), si_sdr(noisy, clean), snr) for noisy, clean, snr in batches]
    after, before, snr = (torch.cat(part) for part in zip(*found, strict=True))
    return after, after - before, snr


def measure(model: Callable[[Tensor], Tensor], batches: Iterable[Fixed]) -> dict[str, float]:
    """Return {'si_sdr': dB, 'si_sdr_improvement': dB}, means over mixtures."""
    after, gain, _ = ratios(model, batches)
    return {"si_sdr": after.mean().item(), "si_sdr_improvement": gain.mean().item()}


def report(model: Callable[[Tensor], Tensor], batches: Iterable[Fixed]) -> str:
    """A Markdown table: one row for all mixtures, one for each SNR band."""
    after, gain, snr = ratios(model, batches)
    lines = ["| SNR | mixtures | noisy SI-SDR dB | enhanced SI-SDR dB | gain dB |", "|---|---|---|---|---|"]
    for low, high in ((SNR_BANDS[0][0], SNR_BANDS[-1][1]), *SNR_BANDS):
        chosen = (snr >= low) & (snr < high)
        noisy, enhanced, better = (x[chosen].mean().item() for x in (after - gain, after, gain))
        lines.append(f"| {low} to {high} dB | {int(chosen.sum())} | {noisy:.2f} | {enhanced:.2f} | {better:.2f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    seed, count = (TEST_SEED, TEST_MIXTURES) if options.split == "test" else (VAL_SEED, VAL_MIXTURES)
    print(report(load(options.weights), Mixtures(options.data, options.split, seed).fixed(count)))


if __name__ == "__main__":
    main()
