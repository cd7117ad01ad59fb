"""Fits of models whose channels come in groups, down to budgets where whole groups go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from laws import Referee
from samples import Sample, grouped

import shrinkspeech
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.capture import capture
from shrinkspeech.groups.label import label

MODELS = {sample.name: sample for sample in grouped.SAMPLES}


def fit(sample: Sample, target: str, steps: int = 6) -> Any:
    torch.manual_seed(0)
    inputs = sample.inputs()
    recipe = Recipe(train_batches=lambda: iter([inputs] * 2), loss=None, inputs=lambda batch: batch)
    return shrinkspeech.fit(capture(sample.model(), inputs), recipe, target, steps=steps)


@pytest.mark.parametrize("target", ["40%", "15%"])
@pytest.mark.parametrize(
    "name",
    ["group_norm_many", "conv1d_grouped", "transposed_grouped", "multiplier_norm", "shuffled_norm", "joined_grouped"],
)
def test_low_budgets_are_met(name: str, target: str) -> None:
    """The warm start removes whole groups, and what follows works on those that are left."""
    fitted = fit(MODELS[name], target)
    report, small = fitted.report, fitted.captured
    assert 0 < report.flops <= float(target[:-1]) / 100 * report.original_flops
    assert Referee(small.graph_module).count(small) / small.batch == pytest.approx(report.flops)


def test_the_count_of_groups_is_a_group_of_its_own() -> None:
    """The weight loses whole groups and channels inside each, and the node's argument follows."""
    sample = MODELS["conv1d_grouped"]
    captured = capture(sample.model(), sample.inputs())
    count, inner, outer = label(captured).shrinkable
    assert (count.size, inner.size, outer.size) == (3, 4, 6)
    small = shrinkspeech.slice(captured, label(captured), {count.name: 2, inner.name: 3})
    assert small.parameters()["1.weight"].shape == (2 * 6, 3, 3)
    [node] = [node for node in small.graph_module.graph.nodes if "groups" in node.kwargs or len(node.args) > 6]
    assert node.args[6] == 2
