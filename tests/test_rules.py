"""Every registered operator keeps both laws and is counted right, in a model that really contains it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from laws import check_laws
from samples import (
    Sample,
    assignments,
    attention,
    contractions,
    einsums,
    grouped,
    inplace,
    layers,
    lookups,
    recurrences,
    reductions,
    shapes,
)
from samples.pointwise import Pointwise, traced
from torch import Tensor, nn

from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.groups.label import label
from shrinkspeech.rules import pointwise, registered

TABLES = (
    assignments,
    contractions,
    einsums,
    grouped,
    attention,
    shapes,
    inplace,
    reductions,
    recurrences,
    layers,
    lookups,
)
POINTWISE = [target for target, rule in registered().items() if rule in (pointwise.pointwise, pointwise.first)]


@pytest.mark.parametrize("target", POINTWISE, ids=str)
def test_pointwise_operators(target: Any) -> None:
    torch.manual_seed(0)
    model, x = Pointwise(target).eval(), torch.randn(2, 5, 6)
    captured = traced(model, x)
    if "rand" not in str(target):
        assert max_difference(captured.graph_module(x), model(x)) == 0
    checked = check_laws(captured, choices=2)
    assert target in checked.operators
    assert checked.shrinkable >= 1
    assert not checked.groups.unknown


UNREACHABLE = {
    torch.ops.aten.split.Tensor: "export fixes the size of an axis that it splits, and capture then names the parts"
}
"""Operators that no capture can hold, each with the reason."""
SAMPLES = [sample for table in TABLES for sample in table.SAMPLES]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_samples(sample: Sample) -> None:
    torch.manual_seed(0)
    checked = check_laws(sample.model(), sample.inputs(), referee=sample.referee, train=sample.train)
    assert checked.shrinkable >= sample.min_groups
    assert bool(checked.groups.unknown) == sample.unknown
    assert set(sample.operators) <= checked.operators
    reasons = [group.frozen for group in checked.groups]
    assert all(any(word in reason for reason in reasons) for word in sample.frozen)


def test_every_operator_has_a_sample() -> None:
    covered = {target for sample in SAMPLES for target in sample.operators} | set(POINTWISE) | set(UNREACHABLE)
    assert sorted(map(str, registered().keys() - covered)) == []


@torch.library.custom_op("shrinkspeech_tests::squash", mutates_args=())
def squash(x: Tensor) -> Tensor:
    """An operator that nobody has heard of: it mixes its channels."""
    return x / (1.0 + x.abs().sum(1, keepdim=True))


@squash.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Squashed(nn.Module):
    """Three layers; the unknown operator stands between the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 10, 3), nn.Conv1d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(squash(self.first(x))).relu())


def test_an_unknown_operator_freezes_its_groups_alone() -> None:
    torch.manual_seed(0)
    checked = check_laws(Squashed(), (torch.randn(2, 3, 20),), train=False)
    assert list(checked.groups.unknown.values()) == ["shrinkspeech_tests.squash.default"]
    frozen = {
        g.where: g.frozen
        for g in checked.groups
        if any(c.parameter == "first.weight" and c.dim == 0 for c in g.carriers)
    }
    assert list(frozen) == ["first"]
    assert "shrinkspeech_tests.squash.default has no rule" in frozen["first"]
    assert "test_rules.py:" in frozen["first"]
    assert [group.where for group in checked.groups.shrinkable] == ["second"]


@pytest.mark.parametrize(("width", "size"), [(7, 25), (15, 29), (25, 39)])
def test_integer_widths_are_whole(width: int, size: int) -> None:
    """Widths that come out of width / size · size a little above the integer open no further unit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, size), nn.ReLU(), nn.Linear(size, 4))
    captured = capture(model, (torch.randn(2, 5, 3),))
    (group,) = label(captured).shrinkable
    check_laws(captured, widths={group.name: width})
