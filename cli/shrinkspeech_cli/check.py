"""``shrinkspeech check``: an ONNX file against limits, for continuous integration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from shrinkspeech.budget import quantities
from shrinkspeech.defaults import HALF_TOLERANCE, TIMEOUT, TOLERANCE
from shrinkspeech_cli.amounts import Limits
from shrinkspeech_cli.model import Loading
from shrinkspeech_cli.options import option, options
from shrinkspeech_cli.time_limit import time_limit

if TYPE_CHECKING:
    from shrinkspeech.export.check import CheckReport
    from shrinkspeech.graph.captured import Captured


@dataclass(frozen=True)
class Reference:
    """What the file must agree with."""

    panel: ClassVar[str] = "Reference model"

    reference: Annotated[
        str | None,
        option("Torch model that the file must agree with, or the RUN that it was exported from.", metavar="MODEL"),
    ] = None
    tolerance: Annotated[
        float | None,
        option(
            "Largest difference from the reference, relative to the largest output. By default "
            f"{TOLERANCE:g}, or {HALF_TOLERANCE:g} for a model in float16.",
            metavar="X",
        ),
    ] = None

    def capture(self, loading: Loading) -> Captured | None:
        """The reference model; ``RUN`` folders stand for the model in them.

        Raises:
            InputError: there is none, and yet it is said how to load it.
        """
        from shrinkspeech.errors import InputError
        from shrinkspeech.loading.sums import verify

        if self.reference is None:
            if loading.named:
                raise InputError("--factory, --weights and --trust-pickle belong to --reference MODEL: give it too")
            return None
        inside = Path(self.reference) / "model.pt2"
        if inside.is_file():
            verify(inside.parent, [inside.name])
        return loading.capture(str(inside) if inside.is_file() else self.reference)


@dataclass(frozen=True)
class Feeding:
    """What the file is fed to be counted and timed, where its metadata does not say it."""

    panel: ClassVar[str] = "What the file is fed"

    seconds: Annotated[
        float | None,
        option(
            "Seconds of audio in one item of the example. A file that ShrinkSpeech wrote says it itself.", metavar="S"
        ),
    ] = None
    feed: Annotated[
        list[str] | None,
        option(
            "What an input holds, such as lengths=16000 or lengths=16000,9000; once for each input.", metavar="NAME=N"
        ),
    ] = None
    batch: Annotated[
        int | None, option("Items in the example, where its first dimension does not say it.", metavar="N", min=1)
    ] = None

    def values(self) -> dict[str, list[float]] | None:
        """Numbers by input.

        Raises:
            InputError: an option is no name with numbers.
        """
        from shrinkspeech.errors import InputError

        found = {}
        for text in self.feed or ():
            name, _, numbers = text.rpartition("=")
            try:
                found[name.strip()] = [float(number) for number in numbers.split(",")]
            except ValueError:
                name = ""
            if not name.strip():
                raise InputError(f"cannot read --feed '{text}': write NAME=NUMBER or NAME=NUMBER,NUMBER,…")
        return found or None


@options
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The ONNX file.", show_default=False)],
    limits: Limits,
    reference: Reference,
    loading: Loading,
    fed: Feeding,
    threads: Annotated[int, option("Threads for the latency.", metavar="N", min=1)] = 1,
    altered: Annotated[
        bool, option("Measure a file that is not to the byte what 'export' wrote.", "--altered")
    ] = False,
    timeout: Annotated[float, option("Give up after so many seconds; 0 for no limit.", metavar="S", min=0)] = TIMEOUT,
) -> None:
    """Measure an ONNX file; exit code 0 if every limit is met, 1 if one is not, 2 if it cannot be measured."""
    from shrinkspeech.export.check import check as run_check

    known = quantities()
    allowed = {name: known[name].limit(text, f"--max-{name}") for name, text in limits.given().items()}
    with time_limit(timeout, str(file)):
        report = run_check(
            file,
            max_flops=allowed.get("flops"),
            max_params=allowed.get("params"),
            max_bytes=allowed.get("size"),
            max_latency=allowed.get("latency"),
            reference=reference.capture(loading),
            tolerance=reference.tolerance,
            seconds=fed.seconds,
            example=_shapes(loading.example),
            values=fed.values(),
            batch=fed.batch,
            threads=threads,
        )
        if not altered:
            _refuse_altered(file)
    _show(report)
    if not report.met:
        raise typer.Exit(1)


def _refuse_altered(file: Path) -> None:
    """
    Raises:
        InputError: the file says that the export wrote it, and has been damaged or altered since.
    """
    from shrinkspeech.errors import InputError
    from shrinkspeech.export.onnx_file import OnnxFile
    from shrinkspeech.export.onnx_seal import is_altered

    read = OnnxFile.read(file)
    if is_altered(read.data, read.metadata):
        raise InputError(
            f"{file} is damaged, or another program has altered it: its bytes are not those that 'export' wrote; export it "
            "again, or give --altered to measure it as it is"
        )


def _shapes(example: list[str] | None) -> list[tuple[int, ...]] | None:
    from shrinkspeech.loading.examples import example_shape

    return [example_shape(text)[0] for text in example] if example else None


def _show(report: CheckReport) -> None:
    from rich.console import Console
    from rich.markup import escape

    from shrinkspeech_cli.tables import table

    rows = table("", "measured", "limit", "", left=(0, 3))
    for row in report.rows:
        verdict = "" if row.limit is None else ("[green]met[/]" if row.met else "[red]not met[/]")
        limit = "" if row.limit is None else _number(row.name, row.limit)
        note = f"{verdict} {escape(row.note)}".strip()
        rows.add_row(escape(row.name), _number(row.name, row.measured), limit, note)
    Console(highlight=False).print(rows)


def _number(name: str, value: float) -> str:
    """Counts with all their digits, so that a limit that is just missed shows why; small numbers with three."""
    if name == "FLOP/s" and math.isinf(value):
        return "?"
    return f"{value:,.0f}" if name in ("FLOP/s", "parameters", "bytes") else f"{value:.3g}"
