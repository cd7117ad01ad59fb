"""Tables and figures of the detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import shrinkspeech
from benchmarks.case_studies import figures, paper
from benchmarks.case_studies.rows import Row
from benchmarks.case_studies.vad import MODELS, RANGES
from benchmarks.quality.cases import Case
from shrinkspeech.budget.amounts import human

TITLES = {"crnn_vad": "recurrent: crnn_vad", "transformer_vad": "attention: transformer_vad"}
PUBLISHED = {
    "crnn_vad": (paper.CRNN, paper.CRNN_LASSO),
    "transformer_vad": (paper.TRANSFORMER, paper.TRANSFORMER_LASSO),
}
MEL_BANDS, MEL_LOW, MEL_HIGH = 80, 20.0, 8_000.0  # Hz


def centres() -> list[float]:
    """Centre of each mel band in Hz (HTK formula, as the models have it)."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (MEL_LOW, MEL_HIGH))
    step = (high - low) / (MEL_BANDS + 1)
    return [700.0 * (10.0 ** ((low + step * (band + 1)) / 2595.0) - 1.0) for band in range(MEL_BANDS)]


def kept_bands(row: Row) -> list[int]:
    """Indices of the mel bands that a shrunk model reads."""
    return [int(band) for band in row["bands"].split()] or list(range(MEL_BANDS))


def of(rows: Sequence[Row], model: str) -> list[Row]:
    return [row for row in rows if row["model"] == model]


def draw(rows: Sequence[Row], folder: Path) -> None:
    """``vad.png``: in total, with the paper's points; ``vad_snr.png``: by range; ``vad_bands.png``: bands that stay."""
    figure, panels = figures.blank(2)
    for panel, model in zip(panels, MODELS, strict=True):
        figures.curve(panel, of(rows, model), "eer", f"{model}, shrunk from its original (right)", linewidth=2)
        figures.context(panel, *PUBLISHED[model])
        panel.set_ylim(bottom=7.5)
        figures.finish(panel, TITLES[model])
    figures.save(figure, folder / "vad.png")

    figure, panels = figures.blank(2)
    for panel, model in zip(panels, MODELS, strict=True):
        for name in RANGES:
            figures.curve(panel, of(rows, model), name, name)
        figures.curve(panel, of(rows, model), "eer", "all", color="black", linewidth=2)
        figures.finish(panel, TITLES[model])
    figures.save(figure, folder / "vad_snr.png")

    figure, [panel] = figures.blank(1, 7.0, 2.4)
    shown = of(rows, "transformer_vad")
    for height, row in enumerate(shown):
        hz = [centres()[band] for band in kept_bands(row)]
        panel.plot(hz, [height] * len(hz), "|", markersize=14, color="tab:blue")
    panel.set_yticks(range(len(shown)), [f"{row['budget']}: {len(kept_bands(row))} bands" for row in shown])
    panel.set_xscale("log")
    panel.set_xticks([100, 300, 1000, 3000, 8000], ["100", "300", "1000", "3000", "8000"])
    panel.set(xlabel="centre of the mel band, Hz", title="mel bands that transformer_vad keeps")
    panel.set_ylim(len(shown) - 0.5, -0.5)
    figures.save(figure, folder / "vad_bands.png")


def table(rows: Sequence[Row], model: str) -> str:
    """One row for each budget."""
    bands = model == "transformer_vad"
    names = ["budget", "FLOP/s", "share %", "parameters", "EER %", *(f"{name}" for name in RANGES)]
    lines = [_line([*names, "mel bands"] if bands else names), "|---" * (len(names) + bands) + "|"]
    for row in of(rows, model):
        cells = [
            "original" if row["budget"] == "100%" else row["budget"],
            human(float(row["flops"])),
            f"{100 * float(row['share']):.2f}",
            f"{int(row['params']):,}",
            f"**{float(row['eer']):.2f}**",
            *(f"{float(row[name]):.2f}" for name in RANGES),
        ]
        lines.append(_line([*cells, str(len(kept_bands(row)))] if bands else cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def why_not() -> str:
    """What ``inspect`` says about the mel bands of crnn_vad."""
    groups = shrinkspeech.label(Case("crnn_vad").captured())
    [bands] = [group for group in groups if group.size == MEL_BANDS]
    return f"    {bands.name}  {bands.size}  can shrink: no: {bands.frozen}"


def text(rows: Sequence[Row]) -> str:
    """What stands between the marks of the page."""
    first = rows[0]
    parts = [
        f"Measured on {max(row['date'] for row in rows)} ({first['machine']}, torch {first['torch']}), seed 0.",
        "![EER against FLOP/s](vad.png)",
    ]
    for model in MODELS:
        steps = {row["steps"] for row in of(rows, model)} - {"0"}
        parts += [f"### {model}, {' or '.join(sorted(steps))} steps a fit", table(rows, model)]
    parts += [
        "### By range of SNR",
        "![EER against FLOP/s by range of SNR](vad_snr.png)",
        "### The filterbank",
        "![Mel bands that are kept](vad_bands.png)",
        "What `shrinkspeech inspect` says about the mel bands of crnn_vad:",
        why_not(),
    ]
    return "\n\n".join(parts)
