"""Weights that several layers share stay one tensor: sliced once, left alone by folding, trained as one."""

from __future__ import annotations

import pytest
import torch
from laws import check_laws
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.fold import fold


class Shared(nn.Module):
    """Two layers with one weight and biases of their own, and one of them applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.last = nn.Linear(12, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        y = y + self.a(y).relu()
        y = y + self.b(y).tanh()
        return self.last(y + self.a(y))


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Shared(), (torch.randn(2, 7, 6),))


def shared_weight(captured: Captured) -> tuple[str, Tensor]:
    """The name under which the graph reads the one square matrix."""
    names = {
        str(n.target) for n in captured.graph_module.graph.nodes if n.op == "get_attr" and "weight" in str(n.target)
    }
    [name] = names & {"a.weight", "b.weight"}
    [node] = [n for n in captured.graph_module.graph.nodes if n.target == name]
    assert len(node.users) == 3
    return name, captured.parameters()[name]


def test_they_are_one_group_and_one_tensor(captured: Captured) -> None:
    checked = check_laws(captured, widths={"first": 5})
    assert [group.name for group in checked.groups.shrinkable] == ["first"]
    assert checked.sliced is not None
    assert shared_weight(checked.sliced)[1].shape == (5, 5)
    assert sum(p.numel() for p in checked.sliced.graph_module.parameters()) == 5 * 6 + 5 * 5 + 3 * 5 + 3 * 5 + 3


def test_folding_leaves_them_alone(captured: Captured) -> None:
    """One weight cannot make up for what two different inputs lose; that of the last layer, read once, can."""
    folded = fold(captured, label(captured), {"first": list(range(8))}, [captured.example_inputs])
    name, before = shared_weight(captured)
    assert torch.equal(folded.parameters()[name], before)
    assert not torch.equal(folded.parameters()["last.weight"], captured.parameters()["last.weight"])


def test_a_fit_trains_one_tensor(captured: Captured) -> None:
    recipe = Recipe(train_batches=lambda: iter([captured.example_inputs] * 2), loss=None, inputs=lambda batch: batch)
    fitted = shrinkspeech.fit(captured, recipe, "40%", steps=6)
    width = fitted.widths["first"]
    assert shared_weight(fitted.captured)[1].shape == (width, width)
    assert fitted.report.params == 6 * width + width * width + 3 * width + 3 * width + 3
