"""Write the results: a CSV with every number, and the page that says how each model fared."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.trained.commands import BUDGET, Places, fit_command, inspect_command
from benchmarks.trained.models import Model
from benchmarks.trained.packages import ROOT, packages
from benchmarks.trained.table import MODELS
from shrinkspeech.budget.amounts import human
from shrinkspeech.files import replacing

CSV = ROOT / "benchmarks" / "results" / "trained.csv"
PAGE = ROOT / "docs" / "trained.md"

COLUMNS = (
    "name source commit date steps inspect_s parameters share flops small_flops metric before after parity ms small_ms fit_s "
    "export_s failed sentence unmeasured limit without_rule inspect_command fit_command"
).split()

Row = Mapping[str, Any]


def show(found: Mapping[str, Row | None]) -> None:
    """Write both files from the rows that there are; models without one keep what the CSV says of them."""
    old = {row["name"]: row for row in _read()}
    rows = [made(model, found[model.name]) or old.get(model.name) for model in MODELS]
    table = [row for row in rows if row is not None]
    missing = [model.name for model, row in zip(MODELS, rows, strict=True) if row is None]
    with replacing(CSV) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    with replacing(PAGE) as temporary:
        temporary.write_text(page(_read(), missing), encoding="utf-8")


def _read() -> list[dict[str, str]]:
    if not CSV.is_file():
        return []
    with CSV.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def made(model: Model, row: Row | None) -> dict[str, Any] | None:
    """A row of the CSV; commands as they are typed in the model's folder, with the folder of audio as ``DATA``."""
    if row is None:
        return None
    places = Places(Path(), Path("DATA"), Path())
    known = {name: row.get(name, "") for name in COLUMNS}
    known.update(source=model.source, limit=model.limit, without_rule=" ".join(row.get("without_rule", ())))
    known["sentence"] = _first(known["sentence"])
    known.update(
        inspect_command=_typed(inspect_command(model, places), model),
        fit_command=_typed(fit_command(model, places, int(row["steps"])), model),
    )
    return known


def _first(sentence: str, most: int = 240) -> str:
    """A sentence without the advice that torch adds to its own."""
    sentence = sentence.split(" consider using ")[0].split(" Caused by: ")[0]
    return sentence if len(sentence) <= most else sentence[: most - 1] + "…"


def _typed(command: Sequence[str], model: Model) -> str:
    here = f"{model.here(Path(), packages())}/"
    parts = [part.replace(here, "").replace(f"{ROOT}/", "") for part in command]
    quoted = [f'"{part}"' if set(part) & set(" '(!") else part for part in parts]
    return " ".join(["shrinkspeech", *quoted])


def page(rows: Sequence[Mapping[str, str]], missing: Sequence[str] = ()) -> str:
    """``docs/trained.md``."""
    through = [row for row in rows if not row["failed"]]
    plain = [row for row in through if "--recipe" not in row["fit_command"]]
    failed = [row for row in rows if row["failed"]]
    parts = [
        HEAD.format(
            budget=BUDGET,
            rows=len(rows),
            through=len(through),
            share=100 * len(through) / max(1, len(rows)),
            dates=" and ".join(sorted({row["date"] for row in rows})),
            machine=platform.machine(),
            cores=os.cpu_count(),
            torch=version("torch"),
        ),
        f"{len(plain)} of them with options alone, {len(through) - len(plain)} with a recipe that feeds the fit what the "
        "model's own front end makes of audio.\n",
        f"Known to the command, but not measured yet: {', '.join(missing)}.\n" if missing else "",
        _table(through),
        "\n## What was typed\n\n" + "\n".join(_commands(row) for row in rows),
    ]
    if failed:
        parts.insert(4, "\n## Not through\n\n" + _failures(failed))
    return "\n".join(parts).rstrip() + "\n"


HEAD = """# Trained models of others

Public speech models with the weights that their authors published, untouched, through `inspect`, `fit` (to {budget} of the
FLOP/s), `export` and `check`, as a user types them in the model's own folder. Written by `python -m benchmarks.trained`
(`make trained`), from `benchmarks/results/trained.csv`; neither code nor weights of these models are part of the project.

Fits are short on purpose (their steps are in the table) and have no labels but those named in the commands. Metrics are of
onnxruntime, before and after, on audio that no fit has met; where the audio has no truth, such as pitch, the original's output
stands for it. Seconds of `inspect` are processor time, as others used the machine too; ms are the median time in onnxruntime of
one item as long as the example, on one thread, both files in turns.

Measured on {dates} ({machine}, {cores} cores, torch {torch}).

**{through} of {rows} models ({share:.0f} %) go through all four commands.**"""


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [
        "| model | given | inspect, s | can shrink | FLOP/s | after | steps | metric | before | after | parity | ms | after |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row["name"],
            given(row["fit_command"]),
            row["inspect_s"],
            f"{100 * float(row['share']):.0f} %",
            human(float(row["flops"])),
            f"{100 * float(row['small_flops']) / float(row['flops']):.1f} %",
            row["steps"],
            row["metric"] or f"not measured: {row['unmeasured']}",
            _number(row["before"]),
            _number(row["after"]),
            row["parity"],
            _number(row["ms"]),
            _number(row["small_ms"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def given(command: str) -> str:
    """What ``fit`` had to be given beside the name of the model's class or function and a budget, in a few words."""
    said = {
        "arguments": "(" in command.split(" --")[0],
        "weights": " --weights " in command,
        "example": " --example " in command,
        "seconds": " --seconds " in command,
        "rate": " --sample-rate " in command,
        "recipe": " --recipe " in command,
    }
    task = [f"task {word}" for flag, word in pairwise(command.split()) if flag == "--task"]
    return ", ".join([name for name, there in said.items() if there] + task)


def _failures(rows: Sequence[Mapping[str, str]]) -> str:
    lines = ["| model | fails at | what the tool says | whose limit it is |", "|---|---|---|---|"]
    for row in rows:
        whose = row["limit"] or "this project's"
        lines.append(f"| {row['name']} | {row['failed']} | {_escaped(row['sentence'])} | {whose} |")
    return "\n".join(lines) + "\n"


def _commands(row: Mapping[str, str]) -> str:
    typed = [row["inspect_command"]] + ([f"{row['fit_command']} -o run"] if row["failed"] != "inspect" else [])
    return "\n".join([f"### {row['name']}\n\n{row['source']}\n\n```sh", *typed, "```\n"])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _number(text: str) -> str:
    return f"{float(text):.3g}" if text else "–"
