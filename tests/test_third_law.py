"""The third law: no axis is lost. A rule that forgets something fails at once, with operator, node and line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from laws import check_laws
from samples import apply, linear
from torch import Tensor, nn

from shrinkspeech.errors import RuleError
from shrinkspeech.graph.capture import capture
from shrinkspeech.groups.label import label
from shrinkspeech.rules import Effect, registry, rule
from shrinkspeech.rules.registry import Site

aten = torch.ops.aten


@torch.library.custom_op("shrinkspeech_tests::after", mutates_args=())
def after(x: Tensor, first: Tensor) -> Tensor:
    """Steps of ``x [B, T, C]`` from the one before it, ``first [B, 1, C]`` before the first one."""
    return x - torch.cat([first, x[:, :-1]], 1)


@after.register_fake
def _(x: Tensor, first: Tensor) -> Tensor:
    return torch.empty_like(x)


after.register_autograd(lambda ctx, g: (g - torch.cat([g[:, 1:], g[:, :1] * 0], 1), -g[:, :1]))


def forgetful(site: Site) -> Effect:
    """What it should not be: ``first`` has the channels of ``x``, and time must not be parted."""
    return Effect(outputs=(site.axes(site.arg(0)),))


def complete(site: Site) -> Effect:
    x, first = site.axes(site.arg(0)), site.axes(site.arg(1))
    site.freeze(x[1], "steps along it")
    site.unify(x[2], first[2])
    return Effect(outputs=(x,))


class Steps(nn.Module):
    """Steps of one layer from the first frame of another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.b(x)[:, :1]
        return self.c(after(self.a(x), first).tanh())


def test_a_forgotten_argument_is_refused_by_operator_node_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._RULES, torch.ops.shrinkspeech_tests.after.default, forgetful)
    found = (
        r"after\.default loses an axis at after .*test_third_law\.py:\d+\): the 8 units on axis 2 of its argument slice"
    )
    with pytest.raises(RuleError, match=found):
        label(capture(Steps(), (torch.randn(2, 7, 6),)))


def test_the_rule_that_forgets_nothing_keeps_the_other_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._RULES, torch.ops.shrinkspeech_tests.after.default, complete)
    assert check_laws(Steps(), (torch.randn(2, 7, 6),)).shrinkable == 1


def without(**changes: Any) -> Callable[[Any], Callable[[Site], Effect]]:
    """A rule that leaves part of its effect out."""
    return lambda found: lambda site: replace(found(site), **changes)


@pytest.mark.parametrize(
    ("operator", "forget", "forward"),
    [
        (aten.linear.default, without(reads=()), lambda m, x: m.b(m.a(x).relu())),
        (aten.mean.dim, without(masked=None), lambda m, x: m.b(m.a(x)) + m.a(x).mean(-1, keepdim=True)),
        (aten.slice.Tensor, without(left=(), literals=()), lambda m, x: m.c(m.a(x)[..., 3:])),
        (aten.slice.Tensor, without(left=()), lambda m, x: m.c(m.a(x)[..., :5])),
    ],
    ids=["reads", "masked", "literals", "left"],
)
def test_whatever_accounts_for_an_axis_is_missed(
    operator: Any, forget: Any, forward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture(apply(forward, a=linear(6, 8), b=linear(8, 2), c=linear(5, 2))(), (torch.randn(2, 7, 6),))
    assert label(captured).shrinkable
    monkeypatch.setitem(registry._RULES, operator, forget(registry._RULES[operator]))
    with pytest.raises(RuleError, match=f"the rule of {operator} loses an axis"):
        label(captured)


def test_a_frozen_axis_may_end_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def freezing(site: Site) -> Effect:
        site.freeze(site.axes(site.arg(0))[-1], "taken whole")
        return Effect(outputs=(site.fixed(site.shape()),))

    monkeypatch.setitem(registry._RULES, aten.mean.dim, freezing)
    model = apply(lambda m, x: m.a(x).mean(-1, keepdim=True), a=linear(6, 8))()
    (group,) = (group for group in label(capture(model, (torch.randn(2, 7, 6),))) if group.size == 8)
    assert "taken whole" in group.frozen


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda site: Effect(outputs=(site.axes(site.arg(0))[:-1],)), r"says sizes \[\(2, 7\)\] for relu .*torch says"),
        (lambda site: Effect(outputs=(site.axes(site.arg(0)),) * 2), "says sizes"),
        (lambda site: Effect(outputs=(site.axes(site.arg(3)),)), "says sizes"),
        (lambda site: site.axes(site.arg(0))[9], r"the rule of aten\.relu\.default fails at relu .*IndexError"),
    ],
    ids=["rank", "count", "argument", "fails"],
)
def test_a_rule_that_contradicts_torch_is_refused(wrong: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._RULES, aten.relu.default, wrong)
    with pytest.raises(RuleError, match=words):
        label(capture(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), (torch.randn(2, 7, 6),)))


def test_a_second_rule_for_one_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="has a rule already"):
        rule(aten.relu.default)(complete)
