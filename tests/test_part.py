"""What is left of a model after one cut or several: its labels still describe its graph, and it can be restored."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.surgery.depth import allow_empty, removable
from shrinkspeech.surgery.insert import gate
from shrinkspeech.surgery.part import Part, names_read
from shrinkspeech.surgery.slice import slice as slice_graph
from tests.laws import check_closed, check_cost, check_open

X = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """``[B, 6, T]`` → ``[B, T, 3]``: a residual branch, channels and features on one axis, a GRU, and a norm over its units."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(6, 8, 3, padding=1)
        self.up, self.norm, self.down = nn.Conv1d(8, 12, 1), nn.BatchNorm1d(8), nn.Conv1d(12, 8, 1)
        self.features, self.planes = nn.Conv1d(8, 5, 1), nn.Conv2d(1, 4, 3, padding=1)
        self.gru, self.units = nn.GRU(20, 10, batch_first=True), nn.LayerNorm(10)
        self.last = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = h + self.norm(self.down(self.up(h).relu()))
        planes = self.planes(self.features(h).transpose(1, 2).unsqueeze(1)).relu()
        return self.last(self.units(self.gru(planes.transpose(1, 2).flatten(2))[0]))


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    model = Mixed().eval()
    nn.init.normal_(model.norm.bias)
    nn.init.normal_(model.norm.running_mean)
    return shrinkspeech.capture(model, (X,))


@pytest.fixture(scope="module")
def whole(captured: Captured) -> Part:
    """The whole model, in which branches may vanish, with random ranks."""
    groups = shrinkspeech.label(captured)
    part = Part.whole(captured, allow_empty(groups, removable(captured, groups, slice_graph)))
    generator = torch.Generator().manual_seed(1)
    scores = {name: torch.rand(len(units), generator=generator) for name, units in part.kept.items()}
    return Part(captured, part.groups, part.kept, part.ranks.with_scores(scores), {})


CUTS: dict[str, list[dict[str, int]]] = {
    "once": [{"first": 5, "up": 7, "planes": 3, "gru": 6}],
    "twice": [{"first": 7, "up": 9, "gru": 8}, {"first": 4, "planes": 2, "gru": 5}],
    "a branch is gone": [{"up": 0}],
    "a branch is gone, then units of what it was added to": [{"up": 0, "gru": 7}, {"first": 5}],
    "units, then the branch": [{"up": 5, "first": 6}, {"up": 0, "planes": 3}],
}


def cut(part: Part, widths: Mapping[str, int]) -> Part:
    """The best units; groups are called by the module that computes them."""
    names = {group.where: group.name for group in part.groups if group.name in part.kept}
    return part.slice(part.ranks.best({**part.widths, **{names[where]: width for where, width in widths.items()}}))


@pytest.fixture(scope="module", params=CUTS.values(), ids=CUTS)
def part(whole: Part, request: pytest.FixtureRequest) -> Part:
    part = whole
    for widths in request.param:
        part = cut(part, widths)
    return part


def test_labels_have_the_sizes_of_what_is_left(part: Part) -> None:
    nodes = {node.name for node in part.captured.graph_module.graph.nodes}
    assert part.groups.effects.keys() <= nodes
    for name in names_read(part.captured):
        tensor = attribute(part.captured.graph_module, name)
        assert tuple(axis.size for axis in part.groups.parameters[name]) == tuple(tensor.shape), name
    for name, shapes in part.captured.shapes.items():
        if shapes and name in part.groups.axes:
            assert tuple(tuple(axis.size for axis in axes) for axes in part.groups.axes[name]) == shapes, name
    assert {name: part.groups[name].size for name in part.kept} == part.widths


def test_labels_are_those_of_the_small_graph_labelled_anew(part: Part) -> None:
    anew = shrinkspeech.label(part.captured)
    mine = {group.name: group.size for group in part.groups.shrinkable}
    assert mine == {group.name: group.size for group in anew.shrinkable if group.name in mine}
    assert {group.size for group in anew.shrinkable if group.name not in mine} <= {1}


def test_both_laws_hold_past_a_cut(part: Part) -> None:
    gated = gate(part.captured, part.groups)
    check_open(part.captured, gated)
    check_cost(part.captured, part.groups, part.captured, {}, referee=True)
    widths = {group.name: max(1, group.size // 2) for group in part.groups.shrinkable}
    sliced = check_closed(part.captured, gated, widths, torch.Generator().manual_seed(2))
    check_cost(part.captured, part.groups, sliced, widths, referee=True)


def test_kept_units_are_those_of_the_original(whole: Part, part: Part) -> None:
    at_once = whole.slice(part.kept)
    assert max_difference(part.captured.graph_module(X), at_once.captured.graph_module(X)) <= 1e-5
    for name, units in part.kept.items():
        assert sorted(units, key=whole.ranks.places[name].__getitem__) == [
            units[place] for place in sorted(range(len(units)), key=part.ranks.places[name].__getitem__)
        ]


def test_a_part_is_restored_from_its_state(whole: Part, part: Part) -> None:
    remembered = {"last.weight": {"exp_avg": torch.ones(3, len(part.kept["gru"]))}}
    module = part.captured.copy()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    trained = Part(part.captured.trained(module), part.groups, part.kept, part.ranks, remembered)
    again = whole.restore(trained.state())
    assert torch.equal(again.captured.graph_module(X), trained.captured.graph_module(X))
    assert (again.kept, again.ranks.places) == (part.kept, part.ranks.places)
    assert again.optimiser == remembered
    assert again.groups == part.groups
