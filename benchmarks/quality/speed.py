"""Size and speed of what was fitted: ONNX files of the widths that the rows tell, timed in turns in one run.

Which units are kept does not change the size or the speed, so models are sliced anew to the widths of seed 0.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import onnx_ir

import shrinkspeech
from benchmarks.quality import rows
from benchmarks.quality.cases import Case
from benchmarks.quality.cells import Cells, cells
from shrinkspeech.budget.latency_model import session_of, single
from shrinkspeech.export.onnx_graph import onnx_model
from shrinkspeech.export.timing import in_turns
from shrinkspeech.files import replacing
from shrinkspeech.graph.captured import Captured

FILE = rows.RESULTS.with_name("quality_speed.csv")
REPEATS = 50


def measure(models: Sequence[str], budgets: Sequence[str], path: Path = FILE) -> None:
    """Write bytes and real-time factor (median; one item, one thread) of each budget; rows of other models stay."""
    others = [list(row.values()) for row in rows.read(path) if row["model"] not in models]
    table = [["model", "budget", "onnx_bytes", "rtf"], *others]
    found = cells(rows.read())
    for model in models:
        captured = Case(model).captured()
        groups = shrinkspeech.label(captured)
        small = {"100%": captured}
        for budget, widths in fitted_widths(found, model, budgets).items():
            small[budget] = shrinkspeech.slice(captured, groups, widths)
        times = in_turns([session_of(one) for one in small.values()], single(captured), REPEATS)
        for (budget, one), measured in zip(small.items(), times, strict=True):
            factor = statistics.median(measured) / Case(model).recipe.SECONDS
            table.append([model, budget, str(size_of(one)), f"{factor:.6f}"])
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


def fitted_widths(found: Cells, model: str, budgets: Sequence[str]) -> dict[str, dict[str, int]]:
    """The widths that the fit of seed 0 found, by budget; budgets without such a fit are left out."""
    fits = {budget: found[model, "ours", budget].rows for budget in budgets if (model, "ours", budget) in found}
    return {
        budget: {name: int(width) for name, width in (pair.rsplit("=", 1) for pair in row["widths"].split())}
        for budget, seeds in fits.items()
        for row in seeds
        if row["seed"] == "0"
    }


def size_of(captured: Captured) -> int:
    """Bytes of the ONNX file."""
    return len(onnx_ir.to_proto(onnx_model(captured)).SerializeToString())


def known(path: Path = FILE) -> dict[tuple[str, str], tuple[float, float]]:
    """Bytes and real-time factor by model and budget."""
    return {(row["model"], row["budget"]): (float(row["onnx_bytes"]), float(row["rtf"])) for row in rows.read(path)}
