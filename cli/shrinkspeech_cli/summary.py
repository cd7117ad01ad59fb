"""What a fit or a sweep reached, in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shrinkspeech.budget import Quantity, quantities
from shrinkspeech.budget.amounts import human
from shrinkspeech_cli.tables import table

if TYPE_CHECKING:
    from shrinkspeech.fitting.report import Fitted


def summary(fitted: Fitted, sizes: Mapping[str, int], run: Path) -> None:
    """Original against small, the width of each group, and where the files are."""
    report = fitted.report
    console = Console(highlight=False)
    totals = table("", "original", "small", "small / original")
    _row(totals, "FLOP/s", report.original_flops, report.flops)
    _row(totals, "parameters", report.original_params, report.params)
    quantity, budget = quantities()[report.budget.quantity], report.budget
    if has_own_row(quantity):
        share = f"{100 * budget.reached / budget.original:.2f}%"
        totals.add_row(quantity.name, quantity.text(budget.original), quantity.text(budget.reached), share)
    for name, before in report.metrics_before.items():
        after = report.metrics_after.get(name)
        totals.add_row(escape(name), f"{before:.4g}", "–" if after is None else f"{after:.4g}", "")
    console.print(totals)
    widths = table("group", "original", "small")
    for name, width in fitted.widths.items():
        widths.add_row(escape(name), str(sizes[name]), str(width))
    console.print()
    console.print(widths)
    for state in report.states:
        shapes = " → ".join("×".join(map(str, shape)) for shape in (state.original, state.shape))
        console.print(f"state {state.input}: {shapes}, comes back as {state.output}", soft_wrap=True, markup=False)
    _left_out(console, report.uncounted)
    met = "met" if budget.reached <= budget.target * (1 + 1e-9) else "NOT met"
    console.print(f"\nbudget of {quantity.text(budget.target)} {met}: {quantity.text(budget.reached)}")
    if report.skipped:
        console.print(f"{report.skipped} of {report.steps} steps were skipped: their loss or gradient was not finite")
    if report.unevaluated:
        console.print(_unevaluated(report.unevaluated), soft_wrap=True, markup=False)
    console.print(f"wrote {run}: model.pt2, model.safetensors, widths.json, report.json", soft_wrap=True, markup=False)
    console.print(f"next: shrinkspeech export {run} -o model.onnx", soft_wrap=True, markup=False)


def sweep_summary(results: Mapping[str, Fitted], folder: Path) -> None:
    """What each budget reached, and where the files are."""
    reports = {text: fitted.report for text, fitted in results.items()}
    first = next(iter(reports.values()))
    quantity = quantities()[first.budget.quantity]
    extra = [quantity.name] if has_own_row(quantity) else []
    budgets = table(
        "budget", "FLOP/s", "% of original", "parameters", *extra, *map(escape, first.metrics_before), "time"
    )
    original = [quantity.text(first.budget.original)] if extra else []
    metrics = [f"{value:.4g}" for value in first.metrics_before.values()]
    budgets.add_row(
        "original", human(first.original_flops), "100", human(first.original_params), *original, *metrics, ""
    )
    for text, report in reports.items():
        share = f"{100 * report.flops / report.original_flops:.2f}"
        reached = [quantity.text(report.budget.reached)] if extra else []
        metrics = [f"{report.metrics_after.get(name, float('nan')):.4g}" for name in report.metrics_before]
        row = [human(report.flops), share, human(report.params), *reached, *metrics, f"{report.duration:.0f} s"]
        budgets.add_row(escape(text), *row)
    console = Console(highlight=False)
    console.print(budgets)
    _left_out(console, dict.fromkeys(name for report in reports.values() for name in report.uncounted))
    for text, report in reports.items():
        if report.unevaluated:
            console.print(f"{text}: {_unevaluated(report.unevaluated)}", soft_wrap=True, markup=False)
    console.print(f"\ntotal time {sum(report.duration for report in reports.values()):.0f} s")
    console.print(f"wrote {folder}: a RUN for each budget, sweep.csv, sweep.png", soft_wrap=True, markup=False)


def _left_out(console: Console, uncounted: Iterable[str]) -> None:
    for operators in uncounted:
        console.print(f"not in any of these FLOP/s, as nobody can count it: {operators}", soft_wrap=True, markup=False)


def _unevaluated(reason: str) -> str:
    return f"evaluate() failed on the small model, which is written all the same: {reason}"


def has_own_row(quantity: type[Quantity]) -> bool:
    """FLOP/s and parameters are shown of every fit; another quantity where the budget is of it."""
    return quantity.name not in ("flops", "params")


def _row(rows: Table, name: str, before: float, after: float) -> None:
    rows.add_row(name, human(before), human(after), f"{100 * after / before:.2f}%" if before else "–")
