"""Figures of one row of panels: EER against FLOP/s, ours in colour, the paper's points in grey."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.case_studies.paper import LEGEND, Curve
from benchmarks.case_studies.rows import Row
from shrinkspeech.budget.amounts import human
from shrinkspeech.files import replacing

DPI = 90
GREYS = (("s", "0.45"), ("^", "0.65"))  # marker and colour of the paper's curves


def blank(panels: int, width: float = 5.2, height: float = 4.6) -> tuple[Figure, list[Any]]:
    """A figure with some panels side by side; inches."""
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def curve(panel: Any, rows: Iterable[Row], metric: str, label: str, **style: Any) -> None:
    """One metric of some rows against their FLOP/s, in order of cost."""
    points = sorted((float(row["flops"]), float(row[metric])) for row in rows)
    panel.plot(*zip(*points, strict=True), **{"marker": "o", "label": label, **style})


def context(panel: Any, *curves: Curve) -> None:
    """The paper's points, hollow and grey; the legend says whose they are."""
    for (marker, grey), published in zip(GREYS, curves, strict=False):
        label = f"{LEGEND}:\n{published.name}"
        style = {"marker": marker, "color": grey, "linestyle": ":", "markerfacecolor": "none"}
        panel.plot(published.flops, published.eers, label=label, **style)


def finish(panel: Any, title: str, ylabel: str = "EER %") -> None:
    """Logarithmic FLOP/s with readable ticks, a grid, a legend."""
    panel.set(xscale="log", xlabel="FLOP/s", ylabel=ylabel, title=title)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    low, high = panel.get_xlim()
    if high / low < 20:  # hardly a power of ten lies within
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 3 else (1, 7, 8, 9)))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.3)
    panel.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.15))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
