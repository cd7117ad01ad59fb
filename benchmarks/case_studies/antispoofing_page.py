"""Tables and figure of the anti-spoofing detector, and the plain answer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case_studies import figures, paper
from benchmarks.case_studies.antispoofing import QUESTION, STAGES
from benchmarks.case_studies.rows import Row
from shrinkspeech.budget.amounts import human

SPLITS = ("test", "val")
COLOURS = ("tab:green", "tab:red", "tab:purple", "tab:brown")  # of the stages


def original(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row["budget"] == "100%")


def of(rows: Sequence[Row], part: str) -> list[Row]:
    """Shrunk models of one part, by cost, the most costly first."""
    found = [row for row in rows if row["part"] == part and row["budget"] != "100%"]
    return sorted(found, key=lambda row: (-round(float(row["share"]), 2), int(row["seed"])))


def draw(rows: Sequence[Row], folder: Path) -> None:
    """``antispoofing.png``: all stages with intervals and the paper's points, then single stages on test and on val."""
    figure, [all_stages, *single] = figures.blank(3, 4.3)
    first = [original(rows), *(row for row in of(rows, "all") if row["seed"] == "0")]
    for split, colour in zip(SPLITS, ("tab:blue", "tab:orange"), strict=True):
        label = f"{split}, with 95 % intervals" if split == "test" else split
        figures.curve(all_stages, first, f"{split}_eer", label, color=colour, linewidth=2)
        others = [row for row in of(rows, "all") if row["seed"] != "0"]
        if others:
            figures.curve(
                all_stages, others, f"{split}_eer", f"{split}, other seeds", color=colour, marker="x", linestyle=""
            )
    bars(all_stages, first, "test", "tab:blue")
    figures.context(all_stages, paper.RESNET)
    all_stages.set_ylim(bottom=0)
    figures.finish(all_stages, "all stages")
    for panel, split in zip(single, SPLITS, strict=True):
        for stage, colour in zip(STAGES, COLOURS, strict=True):
            if of(rows, stage):
                figures.curve(panel, [original(rows), *of(rows, stage)], f"{split}_eer", stage, color=colour)
                bars(panel, of(rows, stage), split, colour)
        bars(panel, [original(rows)], split, "grey")
        panel.axhline(float(original(rows)[f"{split}_eer"]), color="grey", linestyle=":", label="original")
        figures.finish(panel, f"one stage at a time, {split} (95 % intervals)")
    figures.save(figure, folder / "antispoofing.png")


def bars(panel: Any, rows: Sequence[Row], split: str, colour: str) -> None:
    """The bootstrap intervals."""
    x, y, low, high = (
        [float(row[n]) for row in rows] for n in ("flops", *(f"{split}_{n}" for n in ("eer", "low", "high")))
    )
    below, above = ([abs(a - b) for a, b in zip(y, edges, strict=True)] for edges in (low, high))
    panel.errorbar(x, y, (below, above), color=colour, capsize=3, linestyle="", alpha=0.4)


def cell(row: Row, split: str) -> str:
    """EER with its interval."""
    return " ".join([f"{float(row[f'{split}_eer']):.2f}", f"({interval(row, split, 'low', 'high')})"])


def interval(row: Row, split: str, low: str, high: str, sign: str = "") -> str:
    return " to ".join(f"{float(row[f'{split}_{name}']):{sign}.2f}".replace("-", "−") for name in (low, high))


def table(rows: Sequence[Row], parts: Sequence[str]) -> str:
    """One row for each model."""
    lines = [
        "| what may shrink | budget | seed | FLOP/s | share % | parameters | test EER % (95 %) | val EER % (95 %) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in [original(rows), *(row for part in parts for row in of(rows, part))]:
        whole = row is original(rows)
        cells = [
            "nothing: the original" if whole else row["part"],
            "" if whole else row["budget"],
            "" if whole else row["seed"],
            human(float(row["flops"])),
            f"{100 * float(row['share']):.2f}",
            f"{int(row['params']):,}",
            *(cell(row, split) for split in SPLITS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def answer(rows: Sequence[Row]) -> str:
    """Whether the EER at the budget in question is not above the original's, on each split."""
    whole, small = original(rows), [row for row in of(rows, "all") if row["budget"] == QUESTION]
    sentences = [f"**At {QUESTION} of the FLOP/s, is the EER not above the original's?**\n"]
    for split in SPLITS:
        before, after = float(whole[f"{split}_eer"]), [float(row[f"{split}_eer"]) for row in small]
        mean = statistics.mean(after)
        sentences.append(
            f"* **On {split}: {'yes' if mean <= before else 'no'}**: {mean:.2f} % in the mean of {len(after)} seeds against "
            f"{before:.2f} % ({', '.join(f'{value:.2f}' for value in after)}; not above in "
            f"{sum(value <= before for value in after)} of {len(after)}). The interval of the change below leaves out zero in "
            f"{apart(small, split)} of {len(after)}; where it does not, these clips cannot tell the models apart."
        )
    lines = ["| | " + " | ".join(f"seed {row['seed']}" for row in small) + " |", "|---" * (len(small) + 1) + "|"]
    for split in SPLITS:
        cells = [interval(row, split, "less", "more", "+") for row in small]
        lines.append(f"| change of the {split} EER, 95 % | {' | '.join(cells)} |")
    return "\n".join(sentences) + "\n\n" + "\n".join(lines)


def apart(rows: Sequence[Row], split: str) -> int:
    """How many models' change of the EER has an interval without zero."""
    return sum(float(row[f"{split}_less"]) > 0 or float(row[f"{split}_more"]) < 0 for row in rows)


def text(rows: Sequence[Row]) -> str:
    """What stands between the marks of the page."""
    steps = ", ".join(sorted({row["steps"] for row in rows} - {"0"}))
    first = original(rows)
    dated = f"Measured on {max(row['date'] for row in rows)} ({first['machine']}, torch {first['torch']}), {steps} steps a fit."
    parts = [dated, answer(rows), "![EER against FLOP/s](antispoofing.png)", "### All stages", table(rows, ["all"])]
    alone = [row for stage in STAGES for row in of(rows, stage)]
    clear = " and ".join(f"{apart(alone, split)} on {split}" for split in SPLITS)
    told = f"Of {len(alone)} models, the interval of the change of the EER leaves out zero in {clear}."
    return "\n\n".join([*parts, "### One stage at a time", told, table(rows, list(STAGES))])
