"""``shrinkspeech inspect``: what of a model can shrink, what cannot, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shrinkspeech_cli.model import Loaded, Source, fixed_texts
from shrinkspeech_cli.options import option, options
from shrinkspeech_cli.status import doing, hushed

if TYPE_CHECKING:
    from shrinkspeech.export.streams import Stream
    from shrinkspeech.groups.groups import Groups


@options
def inspect(
    source: Source,
    recipe: Annotated[Path | None, option("Recipe that lends its example input.", metavar="FILE.py")] = None,
    as_json: Annotated[bool, option("Print one JSON object in place of tables.", "--json")] = False,
) -> None:
    """Show the groups of a model: their size, what they are worth in FLOP/s, and whether they can shrink."""
    from shrinkspeech.fitting.recipe import load_recipe

    with hushed(as_json):
        facts = describe(source.model, source.load(load_recipe(recipe) if recipe else None))
    if as_json:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        _show(facts)


def describe(model: str, loaded: Loaded) -> dict[str, Any]:
    """What there is to know, for JSON. Costs are FLOP/s, shares are of the total.

    ``share`` of a group is that of the operations that it takes part in, ``alone`` what goes when it alone is at its
    smallest width, and ``removable_share`` what goes when all of them are.
    """
    from shrinkspeech.export.forecast import missing
    from shrinkspeech.export.streams import streams_of
    from shrinkspeech.graph.frozen import frozen, transforms
    from shrinkspeech.groups.cost import count
    from shrinkspeech.groups.remedies import remedy
    from shrinkspeech.groups.unruled import unruled

    captured, groups = loaded.captured, loaded.groups
    cost = count(captured, groups, loaded.seconds)
    with doing("looking for what has no form in ONNX"):
        not_in_onnx = missing(captured)
    return {
        "model": model,
        "seconds": loaded.seconds,
        "flops_per_second": cost.original,
        "parameters": captured.parameter_count,
        "frozen_parameters": frozen(captured),
        "fourier_parameters": transforms(captured),
        "shrinkable_share": cost.shrinkable_share,
        "removable_share": cost.removable_share,
        "groups": [
            {
                "name": group.name,
                "size": group.size,
                "where": group.where,
                "share": cost.share(group.name),
                "alone": cost.alone(group.name),
                "shrinkable": group.shrinkable,
                "reason": group.frozen or ("" if group.shrinkable else "at its smallest width"),
                "remedy": remedy(group.frozen),
            }
            for group in groups
        ],
        "states": [_state(groups, stream) for stream in streams_of(captured)],
        "without_rule": [asdict(each) for each in unruled(captured, groups, cost)],
        "not_in_onnx": [asdict(each) for each in not_in_onnx],
        "uncounted": groups.left_out,
        "notes": list(captured.notes),
    }


def _state(groups: Groups, stream: Stream) -> dict[str, Any]:
    """One state, and the groups by which it may become narrower."""
    from shrinkspeech.axes.algebra import labels_of

    found = (groups.of(label) for axis in groups.axes[stream.input][0] for label in labels_of(axis))
    return {
        "input": stream.input,
        "output": stream.output,
        "shape": list(stream.shape),
        "shrinks_with": list(dict.fromkeys(group.name for group in found if group.shrinkable)),
    }


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    from shrinkspeech.budget.amounts import human
    from shrinkspeech_cli.tables import table

    console = Console(highlight=False)
    groups = table("group", "size", "where", "takes part in", "alone", "can shrink", left=(0, 2, 5))
    for group in facts["groups"]:
        answer = "[green]yes[/]" if group["shrinkable"] else f"[yellow]no[/]: {escape(group['reason'])}"
        shares = _percent(group["share"]), _percent(group["alone"])
        groups.add_row(escape(group["name"]), str(group["size"]), escape(group["where"] or "model"), *shares, answer)
    groups.add_row(
        "[bold]all at once[/]", "", "", _percent(facts["shrinkable_share"]), _percent(facts["removable_share"])
    )
    console.print(groups)
    console.print(
        f"\n{human(facts['flops_per_second'])} FLOP/s, {human(facts['parameters'])} parameters "
        f"(example: {facts['seconds']:g} s of audio). At the smallest widths {human(_left(facts))} FLOP/s are left."
    )
    for text in fixed_texts(facts["frozen_parameters"], facts["fourier_parameters"]):
        console.print(text, soft_wrap=True)
    console.print(
        "takes part in: share of FLOP/s in operations of the group; alone: what goes with this group alone at its smallest "
        "width. An operation between two groups is in the shares of both.",
        style="dim",
    )
    for title, lines in (
        ("States, which go in with each chunk and come back with it:", list(map(_state_text, facts["states"]))),
        ("Operators without a rule, which freeze what they touch:", _operators(facts["without_rule"])),
        (
            "Not in these FLOP/s, as nobody can count it (a budget of FLOP/s needs --ignore-uncounted):",
            facts["uncounted"],
        ),
        ("No ONNX file can be written of it (fit needs --no-export-check):", _forecast(facts["not_in_onnx"])),
        ("What would help:", list(dict.fromkeys(group["remedy"] for group in facts["groups"] if group["remedy"]))),
        ("Notes:", facts["notes"]),
    ):
        if lines:
            console.print(f"\n[bold]{title}[/]")
            for line in lines:
                console.print(f"  {escape(line)}", soft_wrap=True)


def _state_text(state: dict[str, Any]) -> str:
    """``h (1×2×96) comes back as h_out: narrower with gru``."""
    shape = "×".join(map(str, state["shape"]))
    fate = f"narrower with {', '.join(state['shrinks_with'])}" if state["shrinks_with"] else "keeps its shape"
    return f"{state['input']} ({shape}) comes back as {state['output']}: {fate}"


def _left(facts: dict[str, Any]) -> float:
    """FLOP/s of the smallest model."""
    return float(facts["flops_per_second"] * (1 - facts["removable_share"]))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share else "–"


def _operators(entries: list[dict[str, Any]]) -> list[str]:
    """``aten.foo.default: encoder.0 (Foo), model.py:12: freezes 2 groups, 96 channels, in 41.2% of the FLOP/s``."""
    return [f"{entry['operator']}: {entry['where']}: {_held(entry)}" for entry in entries]


def _held(entry: dict[str, Any]) -> str:
    if not entry["groups"]:
        return "freezes nothing that is not frozen without it"
    groups = f"{entry['groups']} group{'s' if entry['groups'] > 1 else ''}"
    return f"freezes {groups}, {entry['channels']} channels, in {100 * entry['share']:.1f}% of the FLOP/s"


def _forecast(entries: list[dict[str, str]]) -> list[str]:
    """What is missing, each sentence once."""
    from shrinkspeech.export.forecast import Missing

    return list(dict.fromkeys(Missing(**entry).text for entry in entries))
