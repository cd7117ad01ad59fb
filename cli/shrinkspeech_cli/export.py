"""``shrinkspeech export``: the small model as ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from shrinkspeech.defaults import HALF_TOLERANCE, STFT_FORMS, TOLERANCE
from shrinkspeech_cli.model import Length
from shrinkspeech_cli.options import either, option, options


@options
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder that 'fit' wrote, or a .pt2 file.", show_default=False)
    ],
    output: Annotated[Path, option("File to write.", "--output", "-o", metavar="FILE.onnx", show_default=False)],
    length: Length,
    tolerance: Annotated[
        float | None,
        option(
            "Largest difference from torch, relative to the largest output. By default "
            f"{TOLERANCE:g}, or {HALF_TOLERANCE:g} for a model in float16.",
            metavar="X",
        ),
    ] = None,
    with_frontend: Annotated[
        bool, option("Put the run's --features into the file, so that it takes samples.", "--with-frontend")
    ] = False,
    stft: Annotated[
        str,
        option(
            "Fourier transforms as convolutions with their kernels (conv) or as operators of the runtime (op). auto takes for "
            "each what onnxruntime is faster with, by a measurement at the example's length; of a run with a budget of size "
            "the operators, which need no weights.",
            metavar=either(STFT_FORMS),
        ),
    ] = STFT_FORMS[0],
) -> None:
    """Write a model as ONNX, and compare it with torch at several sizes before it is kept."""
    from shrinkspeech.budget.amounts import human
    from shrinkspeech.errors import InputError
    from shrinkspeech.export.exporter import export_onnx
    from shrinkspeech.export.parity import ONE_SIZE, shapes_text
    from shrinkspeech.loading.load import load, seconds_of
    from shrinkspeech.loading.sums import verify

    if output.is_dir():
        raise InputError(f"{output} is a folder: give a file name to -o, such as {output / 'model.onnx'}")
    if output.exists() and not output.is_file():
        raise InputError(f"{output} is a device or the like: give a file name to -o")
    if tolerance is not None and tolerance <= 0:
        raise InputError("--tolerance must be above zero")
    if stft not in STFT_FORMS:
        raise InputError(f"--stft must be {either(STFT_FORMS)}, not '{stft}'")
    file = _model_file(run)
    if run.is_dir():
        verify(run, ["model.pt2"])
    facts = _facts(run)
    captured = load(file)
    known = facts.get("report", {}).get("seconds") if length.seconds is None else length.seconds
    if with_frontend:
        from shrinkspeech.data.frontend import with_frontend as joined
        from shrinkspeech_cli.task_options import frontend_of

        captured, known = joined(captured, frontend_of(run)), length.seconds
    report = export_onnx(
        captured,
        output,
        metadata=_metadata(facts, with_frontend),
        seconds=seconds_of(captured, known, length.sample_rate),
        tolerance=tolerance,
        stft=form_of(stft, facts),
        original_states={x["input"]: x["original"] for x in facts.get("report", {}).get("states", ())},
    )
    typer.echo(
        f"wrote {report.path}: {report.bytes / 1000:,.1f} kB, opset {report.opset}, {human(report.flops)} FLOP/s, "
        f"{report.parameters:,} parameters; "
        f"agrees with torch within {report.difference:.1e} at {'; '.join(shapes_text(one.shapes) for one in report.parity)}"
    )
    if report.spectra:
        typer.echo(f"Fourier transforms: {'; '.join(map(str, report.spectra))}")
    for state in report.states:
        typer.echo(f"state {state}; it starts from zeros")
    if report.nonstandard:
        typer.echo(f"note: operators outside of the ONNX standard: {', '.join(report.nonstandard)}")
    for note in report.notes:
        typer.echo(f"{'warning' if note.startswith(ONE_SIZE) else 'note'}: {note}")


def _model_file(run: Path) -> Path:
    """The ``.pt2`` of a run folder, or the file itself.

    Raises:
        InputError: there is neither.
    """
    from shrinkspeech.errors import InputError
    from shrinkspeech.loading.load import is_program

    if run.is_dir() and not (run / "model.pt2").is_file():
        raise InputError(f"{run} is no run: there is no model.pt2 in it, which 'shrinkspeech fit -o {run}' writes")
    if run.is_file() and not is_program(run):
        raise InputError(
            f"{run} is not a .pt2 of torch.export.save: give one, or a folder that 'shrinkspeech fit' wrote"
        )
    return run / "model.pt2" if run.is_dir() else run


def _facts(run: Path) -> dict[str, dict[str, Any]]:
    """What the JSON files of a run hold, by their name without the ending; nothing for a single file.

    Raises:
        InputError: a file is not what a fit writes.
    """
    from shrinkspeech.loading.records import Origin, Record, Report, Task, Widths, read_record

    kinds: dict[str, type[Record | Widths]] = {"report": Report, "widths": Widths, "origin": Origin, "task": Task}
    files = {name: run / f"{name}.json" for name in kinds if run.is_dir()}
    return {name: read_record(file, kinds[name]).model_dump() for name, file in files.items() if file.is_file()}


def form_of(stft: str, facts: dict[str, Any]) -> str:
    """The form of Fourier transforms: the kernels of convolutions would take a file beyond a budget of its size."""
    limited = facts.get("report", {}).get("budget", {}).get("quantity") == "size"
    return STFT_FORMS[2] if stft == STFT_FORMS[0] and limited else stft


def _metadata(facts: dict[str, Any], with_frontend: bool) -> dict[str, str]:
    """Entries for the file: the source and its hash, the budget, what it must be fed, and the width of each group."""
    origin, report, task = facts.get("origin", {}), facts.get("report", {}), facts.get("task", {})
    entries = {
        "source": origin.get("source"),
        "source_sha256": origin.get("sha256"),
        "budget": origin.get("budget"),
        "target_flops_per_second": report.get("target_flops"),
        "original_flops_per_second": report.get("original_flops"),
        "sample_rate": task.get("sample_rate") or origin.get("sample_rate"),
        "features": None if with_frontend else task.get("features"),
        "labels": json.dumps(task["labels"], ensure_ascii=False) if task.get("labels") else None,
        "processor": json.dumps(origin["processor"]) if origin.get("processor") else None,
    }
    if "widths" in facts:
        widths = {name: value["width"] for name, value in facts["widths"].items()}
        entries["widths"] = json.dumps(widths, ensure_ascii=False)
    return {name: str(value) for name, value in entries.items() if value is not None}
