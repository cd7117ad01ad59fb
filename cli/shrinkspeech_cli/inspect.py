"""``shrinkspeech inspect``: what of a model can shrink, what cannot, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from shrinkspeech_cli.model import Loaded, Source
from shrinkspeech_cli.options import option, options


@options
def inspect(
    source: Source,
    recipe: Annotated[Path | None, option("Recipe that lends its example input.", metavar="FILE.py")] = None,
    as_json: Annotated[bool, option("Print one JSON object in place of tables.", "--json")] = False,
) -> None:
    """Show the groups of a model: their size, their share of the cost, and whether they can shrink."""
    from shrinkspeech.fitting.recipe import load_recipe

    facts = describe(source.model, source.load(load_recipe(recipe) if recipe else None))
    if as_json:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        _show(facts)


def describe(model: str, loaded: Loaded) -> dict[str, Any]:
    """What there is to know, for JSON. Costs are FLOP/s, shares are of the total."""
    from shrinkspeech.groups.cost import count
    from shrinkspeech.groups.remedies import remedy

    captured, groups = loaded.captured, loaded.groups
    cost = count(captured, groups, loaded.seconds)
    nodes = {node.name: node for node in captured.graph_module.graph.nodes}
    return {
        "model": model,
        "seconds": loaded.seconds,
        "flops_per_second": cost.original,
        "parameters": sum(p.numel() for p in captured.graph_module.parameters()),
        "shrinkable_share": cost.shrinkable_share,
        "groups": [
            {
                "name": group.name,
                "size": group.size,
                "where": group.where,
                "share": cost.share(group.name),
                "shrinkable": group.shrinkable,
                "reason": group.frozen or ("" if group.shrinkable else "at its smallest width"),
                "remedy": remedy(group.frozen),
            }
            for group in groups
        ],
        "without_rule": [
            {"operator": operator, "where": captured.where(nodes[name])} for name, operator in groups.unknown.items()
        ],
        "notes": list(captured.notes),
    }


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    from shrinkspeech.budget.amounts import human
    from shrinkspeech_cli.tables import table

    console = Console(highlight=False)
    groups = table("group", "size", "where", "share of FLOP/s", "can shrink", left=(0, 2, 4))
    for group in facts["groups"]:
        answer = "[green]yes[/]" if group["shrinkable"] else f"[yellow]no[/]: {escape(group['reason'])}"
        share = f"{100 * group['share']:.1f}%" if group["share"] else "–"
        groups.add_row(escape(group["name"]), str(group["size"]), escape(group["where"] or "model"), share, answer)
    console.print(groups)
    console.print(
        f"\n{human(facts['flops_per_second'])} FLOP/s, {human(facts['parameters'])} parameters; "
        f"{100 * facts['shrinkable_share']:.1f}% of the FLOP/s can shrink "
        f"(example: {facts['seconds']:g} s of audio)"
    )
    for title, lines in (
        ("Operators without a rule, which freeze what they touch:", _operators(facts["without_rule"])),
        ("What would help:", list(dict.fromkeys(group["remedy"] for group in facts["groups"] if group["remedy"]))),
        ("Notes:", facts["notes"]),
    ):
        if lines:
            console.print(f"\n[bold]{title}[/]")
            for line in lines:
                console.print(f"  {escape(line)}", soft_wrap=True)


def _operators(entries: list[dict[str, str]]) -> list[str]:
    """``aten.foo.default: encoder.0 (Foo), model.py:12``, each once."""
    return list(dict.fromkeys(f"{entry['operator']}: {entry['where']}" for entry in entries))
