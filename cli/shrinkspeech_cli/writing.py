"""What a run folder holds: the small model, its reports, what it was made from, what its task was, and the sums of all that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shrinkspeech_cli.model import Source
from shrinkspeech_cli.task_options import FILE as TASK
from shrinkspeech_cli.task_options import write_task

if TYPE_CHECKING:
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.fitting.report import Fitted

ORIGIN = "origin.json"
NAMES = ("model.safetensors", "model.pt2", "widths.json", "report.json", ORIGIN, TASK)
"""Files of a run, beside the sums."""


def write_run(folder: Path, fitted: Fitted, source: Source, recipe: Recipe, budget: str, state: Path) -> None:
    """The small model, its reports, what it was made from, what its task was, and at last the sums of all that.

    Raises:
        InputError: it cannot be written; the state of the fit is still there.
    """
    from safetensors import SafetensorError

    from shrinkspeech.errors import InputError, LoadError
    from shrinkspeech.loading.sums import read_sums, remove_stale, write_sums

    try:
        earlier = dict(read_sums(folder))
    except LoadError:
        earlier = {}
    try:
        fitted.save(folder)
        _write_origin(folder, source, budget)
        write_task(folder, recipe)
        more = _write_pretrained(folder, fitted, source)
        names = [*(name for name in NAMES if name != TASK or _is_task(recipe)), *more]
        write_sums(folder, names)
        remove_stale(folder, earlier, names)
    except (OSError, RuntimeError, SafetensorError) as error:  # each library tells of a full disk in its own way
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:200]
        kept = f": its state is in {state}; make room, and give the same command again" if state.is_file() else ""
        raise InputError(f"cannot write the run to {folder} ({reason}){kept}") from error


def _is_task(recipe: Recipe) -> bool:
    from shrinkspeech.tasks.base import TaskRecipe

    return isinstance(recipe, TaskRecipe)


def _write_pretrained(run: Path, fitted: Fitted, source: Source) -> list[str]:
    """The files of ``transformers/`` in a run: the small model for ``from_pretrained``, where its configuration can say it."""
    from shrinkspeech.errors import InputError
    from shrinkspeech.loading.huggingface import class_named
    from shrinkspeech.loading.pretrained import save_pretrained

    kept, spec = source.folder, source.loading.factory if source.loading.weights is None else source.model
    if kept is None or (spec is not None and class_named(spec) is None):
        return []
    shown = run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
    try:
        notes = save_pretrained(fitted.captured, kept, run / "transformers", spec)
    except InputError as error:
        typer.echo(
            f"note: {shown / 'transformers'} is not written, {error}: "
            f"shrinkspeech.load_into(model, '{shown}') puts the small model into your own"
        )
        return []
    typer.echo(f"wrote {shown / 'transformers'}, for from_pretrained" + (f" ({'; '.join(notes)})" if notes else ""))
    return sorted(str(file.relative_to(run)) for file in (run / "transformers").rglob("*") if file.is_file())


def _write_origin(folder: Path, source: Source, budget: str) -> None:
    """``origin.json``: what the small model was made from, for the metadata of an export."""
    from shrinkspeech import __version__
    from shrinkspeech.files import replacing

    factory, weights, kept = source.loading.factory, source.loading.weights, source.folder
    file = Path(weights or source.model) if kept is None else kept.path / "model.safetensors"
    facts: dict[str, Any] = {
        "source": Path(source.model).name,
        "factory": factory,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        "budget": budget,
        "version": __version__,
    }
    if kept is not None:
        facts |= {"sample_rate": kept.rate, "processor": kept.facts}
    with replacing(folder / ORIGIN) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
