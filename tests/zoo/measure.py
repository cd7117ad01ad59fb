"""What is measured on one model: capture, labels, both laws, a budget of 50 %, ONNX parity."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.widths import repair, uniform
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.insert import GatedModule, gate
from shrinkspeech.surgery.slice import slice as slice_graph

from . import Entry


@dataclass
class Row:
    """The findings on one model; a step that failed leaves its reason in ``errors``."""

    name: str
    source: str
    route: str = ""
    nodes: int = 0
    seconds: float = 0.0
    groups: int = 0
    shrinkable: int = 0
    share: float = 0.0
    floor: float | None = None
    unknown: list[str] = field(default_factory=list)
    dynamic: bool = False
    eager: float | None = None
    law1: float | None = None
    law2: float | None = None
    reached: float | None = None
    onnx: float | None = None
    errors: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(entry: Entry, onnx: bool = True) -> Row:
    """Every step on one model. A later step is left out where an earlier one that it needs has failed."""
    row = Row(entry.name, entry.source)
    torch.manual_seed(0)
    model = attempt(row, "make", lambda: entry.make().eval())
    if model is None:
        return row
    started = time.perf_counter()
    captured = attempt(row, "capture", lambda: capture(model, entry.inputs()))
    groups = None if captured is None else attempt(row, "label", lambda: label(captured))
    row.seconds = time.perf_counter() - started
    if captured is not None:
        describe(row, captured)
        row.eager = attempt(
            row, "eager", lambda: max_difference(run(captured.graph_module, captured), run(model, captured))
        )
    if captured is None or groups is None:
        return row
    cost = count(captured, groups, entry.seconds)
    row.groups, row.shrinkable, row.share = len(groups), len(groups.shrinkable), cost.shrinkable_share
    row.unknown = sorted(set(groups.unknown.values()))
    laws(row, captured, groups)
    small = attempt(row, "budget", lambda: halve(row, captured, groups))
    if onnx and small is not None:
        row.onnx = attempt(row, "onnx", lambda: parity(small))
    return row


def attempt(row: Row, step: str, action: Callable[[], Any]) -> Any:
    """The result of a step; None and a note where it fails."""
    try:
        return action()
    except Exception as error:  # one model must not stop the run
        row.errors[step] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return None


def describe(row: Row, captured: Captured) -> None:
    routes = [note for note in captured.notes if note == "captured in strict mode"]
    row.route = "strict" if routes else "plain"
    row.nodes = len(captured.graph_module.graph.nodes)
    row.dynamic = bool(captured.dynamic and len(captured.dynamic[0]) > 1)
    row.notes = [note for note in captured.notes if note not in routes]


def run(module: nn.Module, captured: Captured) -> Any:
    """The output for the example inputs; a model that draws noise draws the same each time."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(*copy.deepcopy(captured.example_inputs))


def laws(row: Row, captured: Captured, groups: Groups) -> None:
    """Law 1 at full width, law 2 at half widths with random units."""
    gated = attempt(row, "gate", lambda: gate(captured, groups))
    if gated is None:
        return
    row.law1 = attempt(row, "law 1", lambda: max_difference(run(gated, captured), run(captured.graph_module, captured)))
    row.law2 = attempt(row, "law 2", lambda: closed(captured, groups, gated))


def closed(captured: Captured, groups: Groups, gated: GatedModule) -> float:
    """Largest relative difference between closed gates and the sliced graph at about half of every width."""
    generator = torch.Generator().manual_seed(1)
    widths, scores = {}, {}
    for group in groups.shrinkable:
        widths[group.name] = max(
            group.min_width, round(group.size * float(0.35 + 0.3 * torch.rand((), generator=generator)))
        )
        scores[group.name] = torch.rand(group.size, generator=generator)
    gated.widths.set_ranks(gated.widths.ranks.with_scores(scores))
    gated.widths.set(widths)
    sliced = slice_graph(captured, groups, gated.widths.ranks.best(widths))
    return max_difference(run(gated, captured), run(sliced.graph_module, captured))


def halve(row: Row, captured: Captured, groups: Groups) -> Captured:
    """The graph sliced to 50 % of its FLOP/s by uniform widths; ``row.reached`` is cost / target."""
    goal = Goal.whole(Flops, captured, groups)
    target = 0.5 * goal.original
    row.floor = goal.smallest / goal.original
    start = uniform(goal, target)
    widths = repair({name: float(width) for name, width in start.items()}, goal, target)
    small = slice_graph(captured, groups, widths)
    row.reached = count(small, label(small)).original / target
    return small


def parity(captured: Captured) -> float:
    """Largest relative difference between torch and onnxruntime, at every size that is tried."""
    with tempfile.TemporaryDirectory() as folder:
        return export_onnx(captured, f"{folder}/model.onnx").difference
