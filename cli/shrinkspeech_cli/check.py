"""``shrinkspeech check``: an ONNX file against limits, for continuous integration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shrinkspeech_cli import options as o

if TYPE_CHECKING:
    from shrinkspeech.export.check import CheckReport
    from shrinkspeech.graph.captured import Captured

_LIMITS, _REFERENCE = "Limits", "Reference model"


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The ONNX file.", show_default=False)],
    max_flops: Annotated[
        str | None, typer.Option(metavar="N", help="FLOP per second of audio: 600k, 1.2M.", rich_help_panel=_LIMITS)
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(metavar="N", help="Parameters: 50k.", rich_help_panel=_LIMITS)
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Size of the file: 300kB, 1.2MB.", rich_help_panel=_LIMITS)
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="Median time for the example, batch of one: 5ms, 0.005s.", rich_help_panel=_LIMITS
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Torch model that the file must agree with.", rich_help_panel=_REFERENCE),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(metavar="X", help="Largest relative difference from the reference.", rich_help_panel=_REFERENCE),
    ] = 1e-4,
    factory: o.Factory = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    example: o.Example = None,
    seconds: o.Seconds = None,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Threads for the latency.")] = 1,
) -> None:
    """Measure an ONNX file; exit code 0 if every limit is met, 1 if one is not, 2 if it cannot be measured."""
    from shrinkspeech.export.check import check as run_check

    max_bytes = amount("--max-size", max_size and re.sub(r"B$", "", max_size.strip()))
    allowed = (amount("--max-flops", max_flops), amount("--max-params", max_params), max_bytes, duration(max_latency))
    model = _reference(reference, factory, weights, trust_pickle, example)
    report = run_check(
        file,
        max_flops=allowed[0],
        max_params=allowed[1],
        max_bytes=allowed[2],
        max_latency=allowed[3],
        reference=model,
        tolerance=tolerance,
        seconds=seconds,
        example=_shapes(example),
        threads=threads,
    )
    _show(report)
    if not report.met:
        raise typer.Exit(1)


def amount(option: str, text: str | None) -> float | None:
    """``600k`` as a number.

    Raises:
        BudgetError: it is a share, or no number.
    """
    from shrinkspeech.budget.widths import parse_budget
    from shrinkspeech.errors import BudgetError

    if text is None:
        return None
    try:
        budget = parse_budget(text)
    except BudgetError as error:
        raise BudgetError(f"cannot read {option} '{text}': write an amount, such as 600k or 1.2M") from error
    if budget.relative:
        raise BudgetError(
            f"{option} {text} is a share, of what is not known here: write an amount, such as 600k or 1.2M"
        )
    return budget.value


def duration(text: str | None) -> float | None:
    """``5ms`` or ``0.005`` in s.

    Raises:
        InputError: it is neither.
    """
    from shrinkspeech.errors import InputError

    if text is None:
        return None
    found = re.fullmatch(r"(\d*\.?\d+)\s*(ms|s|)", text.strip())
    if not found or float(found[1]) <= 0:
        raise InputError(f"cannot read --max-latency '{text}': write 5ms or 0.005s")
    return float(found[1]) * (1e-3 if found[2] == "ms" else 1.0)


def _reference(
    model: str | None, factory: str | None, weights: Path | None, trust_pickle: bool, example: list[str] | None
) -> Captured | None:
    """The reference model; ``RUN`` folders stand for the model in them."""
    from shrinkspeech.errors import InputError

    if model is None:
        if factory or weights or trust_pickle:
            raise InputError("--factory, --weights and --trust-pickle belong to --reference MODEL: give it too")
        return None
    inside = Path(model) / "model.pt2"
    return o.Source(str(inside) if inside.is_file() else model, factory, weights, trust_pickle, example).capture()


def _shapes(example: list[str] | None) -> list[tuple[int, ...]] | None:
    from shrinkspeech.loading.examples import example_shape

    return [example_shape(text)[0] for text in example] if example else None


def _show(report: CheckReport) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "measured", "limit", "", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for row in report.rows:
        verdict = "" if row.limit is None else ("[green]met[/]" if row.met else "[red]not met[/]")
        limit = "" if row.limit is None else _number(row.name, row.limit)
        note = f"{verdict} {escape(row.note)}".strip()
        table.add_row(escape(row.name), _number(row.name, row.measured), limit, note)
    Console(highlight=False).print(table)


def _number(name: str, value: float) -> str:
    """Counts with all their digits, so that a limit that is just missed shows why; small numbers with three."""
    return f"{value:,.0f}" if name in ("FLOP/s", "parameters", "bytes") else f"{value:.3g}"
