"""A residual branch of width 0 is gone from the graph, and the rest computes what closed gates computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.errors import SliceError
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.surgery.depth import allow_empty, removable
from shrinkspeech.surgery.slice import slice as slice_graph

X = torch.randn(2, 20, 30, generator=torch.Generator().manual_seed(0))


class ConvBlock(nn.Module):
    """``x + norm(conv(relu(depthwise(relu(norm(conv(x)))))))``, x ``[B, C, T]``."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv1d(channels, hidden, 1),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.ReLU(),
        )
        self.out = nn.Conv1d(hidden, channels, 1)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.out(self.inside(x)))


class Branches(nn.Module):
    """One residual branch of each kind after the other: convolution, feed-forward, attention, recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(20, 16, 3, padding=1)
        self.conv = ConvBlock(16, 24)
        self.up, self.down = nn.Linear(16, 40), nn.Linear(40, 16, bias=False)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.gru, self.project = nn.GRU(16, 12, batch_first=True), nn.Linear(12, 16)
        self.last = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(self.first(x)).transpose(1, 2)
        h = h + self.down(torch.relu(self.up(h)))
        h = h + self.attention(h, h, h, need_weights=False)[0]
        h = h + self.project(self.gru(h)[0])
        return self.last(h)


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    model = Branches().eval()
    model.conv.norm.running_mean.normal_()
    nn.init.normal_(model.conv.norm.bias)
    return shrinkspeech.capture(model, (X,))


def kinds(captured: Captured) -> set[str]:
    return {getattr(node.target, "_opname", "") for node in captured.graph_module.graph.nodes}


def test_which_groups_may_vanish(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    found = set(removable(captured, groups, slice_graph))
    where = {groups[name].where for name in found}
    assert where == {"conv.inside.0", "up", "attention", "gru"}


@pytest.mark.parametrize(
    ("where", "operator"),
    [("conv.inside.0", "batch_norm"), ("attention", "scaled_dot_product_attention"), ("gru", "gru")],
)
def test_a_branch_of_width_0_is_gone(captured: Captured, where: str, operator: str) -> None:
    groups = shrinkspeech.label(captured)
    name = next(name for name in removable(captured, groups, slice_graph) if groups[name].where == where)
    groups = allow_empty(groups, [name])
    small = shrinkspeech.slice(captured, groups, {name: []})
    gated = shrinkspeech.gate(captured, groups)
    gated.widths.set({name: 0})
    assert operator in kinds(captured)
    assert operator not in kinds(small)
    assert max_difference(gated(X), small.graph_module(X)) <= 1e-5
    assert shrinkspeech.flops(small) < shrinkspeech.flops(captured)


def test_without_a_bias_the_addition_goes_too(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    groups = allow_empty(groups, ["up"])
    small = shrinkspeech.slice(captured, groups, {"up": []})
    additions = [
        sum(node.target is torch.ops.aten.add.Tensor for node in item.graph_module.graph.nodes)
        for item in (captured, small)
    ]
    assert additions[1] == additions[0] - 1


def test_all_branches_at_once_train_save_and_export(captured: Captured, tmp_path: Path) -> None:
    groups = shrinkspeech.label(captured)
    names = removable(captured, groups, slice_graph)
    small = shrinkspeech.slice(captured, allow_empty(groups, names), {name: [] for name in names})
    module = small.module().train()
    module(X).square().mean().backward()
    small.save(tmp_path / "small.pt2")
    again = torch.export.load(tmp_path / "small.pt2").module()
    assert max_difference(again(X), small.graph_module(X)) <= 1e-6
    assert export_onnx(small, tmp_path / "small.onnx").difference <= 1e-4


def test_a_group_on_the_only_path_may_not_vanish(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    trunk = next(group.name for group in groups.shrinkable if group.where == "first")
    with pytest.raises(SliceError, match="at least one"):
        shrinkspeech.slice(captured, groups, {trunk: []})
    assert trunk not in removable(captured, groups, slice_graph)
