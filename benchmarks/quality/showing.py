"""Tables and plots of the rows that are there; nothing is measured here."""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.quality import rows, speed
from benchmarks.quality.cases import NAMES, SAMPLES, Case
from benchmarks.quality.cells import LONG, Cell, Cells, cells
from shrinkspeech.budget.amounts import human
from shrinkspeech.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START, END = "<!-- results -->", "<!-- end -->"
ROOT = Path(__file__).parents[2]
PAGE, FRONT = ROOT / "docs" / "quality.md", ROOT / "README.md"

IN_PARTS = ("crnn_vad", "transformer_vad")
"""Models whose test split is measured in parts too."""

SHORT = {"dscnn_kws": 300, "tcresnet_kws": 300}
"""Fits of fewer steps, which have a table of their own."""


def of(found: Cells, measure: str) -> Cells:
    """The cells with another measure in the place of the metric, where it is known of all seeds."""
    known = {key: others(cell).get(measure, []) for key, cell in found.items()}
    return {key: replace(found[key], values=tuple(v)) for key, v in known.items() if len(v) == len(found[key].rows)}


def table(
    found: Cells, models: Sequence[str], methods: Sequence[str], budgets: Sequence[str], measure: str | None = None
) -> str:
    """Markdown: for each model a table of methods by budgets, mean ± deviation (seeds), the best mean in bold.

    Args:
        measure: what ``found`` holds instead of the recipe's metric.
    """
    lines: list[str] = []
    for model in models:
        case = Case(model)
        original = found.get((model, "original", "100%"))
        if original is None:
            continue
        better = "lower" if case.lower else "higher"
        fits = [cell for (name, method, _), cell in found.items() if name == model and method not in ("original", LONG)]
        steps = " or ".join(sorted({cell.rows[0]["steps"] for cell in fits}))
        lines += [
            f"\n**{model}**: {measure or case.recipe.METRIC} ({better} is better), original {original.mean:.2f}, "
            f"{human(float(original.rows[0]['flops']))} FLOP/s, {steps} steps\n",
            "| method | " + " | ".join(budgets) + " |",
            "|---" * (len(budgets) + 1) + "|",
        ]
        best = {budget: best_of(found, case, methods, budget) for budget in budgets}
        for method in methods:
            row = [found.get((model, method, budget)) for budget in budgets]
            if any(row):
                texts = [
                    "" if cell is None else f"**{cell}**" if best[budget] == method else str(cell)
                    for budget, cell in zip(budgets, row, strict=True)
                ]
                lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def best_of(found: Cells, case: Case, methods: Sequence[str], budget: str) -> str | None:
    """The method with the best mean at one budget."""
    present = [method for method in methods if (case.name, method, budget) in found and method != LONG]
    sign = 1 if case.lower else -1
    return min(present, key=lambda method: sign * found[case.name, method, budget].mean, default=None)


def summary(found: Cells, models: Sequence[str], budgets: Sequence[str]) -> str:
    """For each model and budget: ours, and the peer with the best mean among those that can do it."""
    lines = ["| model, metric | original | FLOP/s | ours | best peer |", "|---|---|---|---|---|"]
    peers = list(dict.fromkeys(method for _, method, _ in found if is_peer(method)))
    for model in models:
        case = Case(model)
        original = found.get((model, "original", "100%"))
        for budget in budgets:
            ours, best = found.get((model, "ours", budget)), best_of(found, case, peers, budget)
            if original and ours:
                peer = "" if best is None else f"{found[model, best, budget]}, {best}"
                lines.append(f"| {model}, {case.recipe.METRIC} | {original.mean:.2f} | {budget} | {ours} | {peer} |")
    return "\n".join(lines)


def is_peer(method: str) -> bool:
    return method != "original" and not method.startswith("ours")


def verdict(found: Cells, models: Sequence[str], budgets: Sequence[str]) -> str:
    """How often ours is at least as good as the best peer's mean, and how often clearly: deviations that do not meet."""
    lines = [
        "| FLOP/s | cells | at or better than the best peer | clearly better | clearly worse |",
        "|---|---|---|---|---|",
    ]
    peers = list(dict.fromkeys(method for _, method, _ in found if is_peer(method)))
    for budget in budgets:
        counts = [0, 0, 0, 0]
        for model in models:
            case = Case(model)
            ours, best = found.get((model, "ours", budget)), best_of(found, case, peers, budget)
            if ours is None or best is None:
                continue
            peer, sign = found[model, best, budget], 1 if case.lower else -1
            gap, room = sign * (peer.mean - ours.mean), ours.deviation + peer.deviation
            for i, held in enumerate((True, gap >= 0, gap > room, -gap > room)):
                counts[i] += held
        lines.append(f"| {budget} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def details(found: Cells, models: Sequence[str], methods: Sequence[str], budget: str) -> str:
    """Markdown: what else was measured at one budget, mean ± deviation."""
    lines: list[str] = []
    for model in models:
        shown = {m: others(found[model, m, budget]) for m in methods if (model, m, budget) in found}
        if whole := found.get((model, "original", "100%")):
            shown = {"original": others(whole), **shown}
        names = list(dict.fromkeys(name for measures in shown.values() for name in measures))
        lines += [
            f"\n**{model}** at {budget}\n",
            "| method | " + " | ".join(name.replace("_", " ") for name in names) + " |",
            "|---" * (len(names) + 1) + "|",
        ]
        for method, measures in shown.items():
            lines.append(f"| {method} | " + " | ".join(spread(measures.get(name, [])) for name in names) + " |")
    return "\n".join(lines)


def others(cell: Cell) -> dict[str, list[float]]:
    """The measures of a cell beside its metric: one value for each seed that has it."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in cell.rows:
        for item in row["others"].split():
            name, number = item.split("=")
            values[name].append(float(number))
    return values


def spread(values: Sequence[float]) -> str:
    """Mean ± deviation (number of values), to four digits or two places."""
    if not values:
        return ""
    places = 4 if statistics.mean(values) < 1 else 2
    deviation = f" ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{places}f}{deviation} ({len(values)})"


def refusals() -> str:
    """What a method could not do, and its reason."""
    measured = {(row["model"], row["method"], row["budget"]) for row in rows.read()}
    noted = [row for row in rows.read(rows.UNSUPPORTED) if (row["model"], row["method"], row["budget"]) not in measured]
    reasons: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in noted:
        reasons[row["model"], row["method"]][row["budget"]] = None
    why = {(row["model"], row["method"]): row["reason"].split(";")[0] for row in noted}
    return "\n".join(
        f"- {model}, {method}, {', '.join(budgets)}: {why[model, method]}"
        for (model, method), budgets in reasons.items()
    )


def plot(path: Path, found: Cells, models: Sequence[str], methods: Sequence[str], budgets: Sequence[str]) -> None:
    """Write the figure as PNG."""
    with replacing(path) as temporary:
        figure(found, models, methods, budgets).savefig(temporary, format="png", dpi=110)


def figure(found: Cells, models: Sequence[str], methods: Sequence[str], budgets: Sequence[str]) -> Figure:
    """Metric against the share of FLOP/s of ours and the peers, one panel for each model, bars of one deviation."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [model for model in models if (model, "original", "100%") in found]
    drawn: dict[str, Any] = {"ours": "black"} | dict(
        zip(filter(is_peer, methods), colormaps["tab20"](range(20)), strict=False)
    )
    columns = min(3, max(len(shown), 1))
    lines = -(-max(len(shown), 1) // columns)
    whole = Figure(figsize=(4.2 * columns + 2, 3.6 * lines), layout="constrained")
    FigureCanvasAgg(whole)
    handles: dict[str, Any] = {}
    panels = whole.subplots(lines, columns, squeeze=False).flatten().tolist()
    for panel in panels[len(shown) :]:
        panel.remove()
    for panel, model in zip(panels, shown, strict=False):
        level = panel.axhline(found[model, "original", "100%"].mean, color="grey", linestyle=":")
        handles.setdefault("original", level)
        for method, colour in drawn.items():
            points = [cell for budget in budgets if (cell := found.get((model, method, budget)))]
            if points:
                handles[method] = panel.errorbar(
                    [100 * statistics.mean(cell.shares) for cell in points],
                    [cell.mean for cell in points],
                    [cell.deviation for cell in points],
                    marker="o",
                    markersize=5 if method == "ours" else 3,
                    capsize=2,
                    linewidth=2.5 if method == "ours" else 1,
                    color=colour,
                    zorder=3 if method == "ours" else 2,
                )
        panel.set(xscale="log", xlabel="FLOP/s, % of the original", ylabel=Case(model).recipe.METRIC, title=model)
        if Case(model).lower:
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
            panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xticks([float(budget.rstrip("%")) for budget in budgets], budgets)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    whole.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    return whole


def readme_table(found: Cells, model: str, budgets: Sequence[str]) -> str:
    """The original and our fits of one model: metric, FLOP/s, parameters, ONNX size, real-time factor."""
    case, sizes = Case(model), speed.known()
    lines = [
        f"| budget | {case.recipe.METRIC} | share of FLOP/s % | FLOP/s | parameters | ONNX kB | real-time factor |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, budget in [("original", "100%"), *(("ours", budget) for budget in budgets)]:
        cell = found.get((model, method, budget))
        if cell is not None:
            size, factor = sizes.get((model, budget), (float("nan"), float("nan")))
            flops, params = (statistics.mean(float(row[name]) for row in cell.rows) for name in ("flops", "params"))
            lines.append(
                f"| {budget if method == 'ours' else 'original'} | {cell} | {100 * statistics.mean(cell.shares):.2f} "
                f"| {human(flops)} | {params:,.0f} | {size / 1e3:.0f} | {factor:.6f} |"
            )
    return "\n".join(lines)


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the two marks of a file.

    Raises:
        ValueError: the file has no such marks.
    """
    page = path.read_text(encoding="utf-8")
    if START not in page or END not in page:
        raise ValueError(f"{path} has no line {START} followed by {END}")
    before, rest = page.split(START, 1)
    after = rest.split(END, 1)[1]
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def show(options: argparse.Namespace) -> None:
    """What the command line asks for: the table on the terminal, the plot, or the tables in READMEs and docs."""
    found = cells(rows.read())
    methods = list(dict.fromkeys(method for _, method, _ in found if method != "original"))
    if options.table:
        print(table(found, options.models, methods, options.budgets))
    if options.plot:
        plot(options.plot, found, options.models, methods, options.budgets)
    if options.readme:
        for model in options.models:
            write_between(SAMPLES / model / "README.md", readme_table(found, model, options.budgets[:3]))
        tables = table(found, NAMES, methods, options.budgets)
        judged = verdict(found, NAMES, options.budgets)
        more = details(found, IN_PARTS, methods, "12.5%")
        val = table(of(found, "val_eer"), NAMES, methods, options.budgets, "EER on the val split")
        few = cells(rows.read(), SHORT)
        short = [table(few, list(SHORT), methods, options.budgets), verdict(few, list(SHORT), options.budgets)]
        parts = [
            tables,
            judged,
            f"Not to be had:\n\n{refusals()}",
            "### Short fits",
            *short,
            "### More measures",
            val,
            more,
        ]
        write_between(PAGE, "\n\n".join(parts))
        write_between(FRONT, summary(found, NAMES, options.budgets[1:3]))
