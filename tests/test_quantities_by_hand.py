"""What a latency model, a size and the widths of a budget are, against their formulas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.axes.algebra import Label
from shrinkspeech.budget import latency_model
from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.latency import Latency
from shrinkspeech.budget.params import Params, tensor_elements
from shrinkspeech.budget.size import Size
from shrinkspeech.budget.widths import raised, repair, rescale, uniform
from shrinkspeech.export import timing
from shrinkspeech.groups.cost import Polynomial
from shrinkspeech.groups.groups import Group, Groups

# -- latency ------------------------------------------------------------------------------------------------------


def test_which_widths_are_timed() -> None:
    """The whole model, shares of it rounded, one unit at least, and mixtures between a tenth and nine tenths."""
    groups = Groups(
        {
            "a": Group("a", Label(1, 40)),
            "b": Group("b", Label(2, 6), min_width=3),
            "still": Group("still", Label(3, 5), frozen="model input"),
            "none": Group("none", Label(4, 4), min_width=0),
        },
        {},
        {},
        {},
    )
    rows = latency_model.widths_to_time(groups)
    assert rows[0] == {"a": 40, "b": 6, "none": 4}
    shares = latency_model.SHARES
    assert [row["a"] for row in rows[1 : 1 + len(shares)]] == [round(40 * share) for share in shares]
    assert [row["b"] for row in rows[1 : 1 + len(shares)]] == [max(3, round(6 * share)) for share in shares]
    assert min(row["none"] for row in rows) == 1
    mixed = rows[1 + len(shares) :]
    assert len(mixed) == latency_model.MIXED
    assert all(4 <= row["a"] <= 36 for row in mixed)
    assert len({tuple(row.values()) for row in mixed}) == len(mixed)
    assert any(round(6 * row["a"] / 40) != row["b"] for row in mixed)
    assert rows == latency_model.widths_to_time(groups)


def test_of_all_constants_and_speeds_the_model_is_nearest_to_the_times_and_to_equal_speed() -> None:
    """The square relative error of the times, and a ridge towards the best model with one speed for all nodes."""
    nodes = [Polynomial({("a",): 30.0}), Polynomial({("b",): 10.0}), Polynomial({("none",): 5.0})]
    settings = [{"a": 10, "b": 10, "none": 0}, {"a": 5, "b": 4, "none": 0}, {"a": 2, "b": 8, "none": 0}]
    times = [4.0, 2.2, 1.75]
    found = latency_model.fit_latency(nodes, settings, times)
    share = np.array([300.0, 100.0]) / 400.0
    rows = np.array([[1.0, row["a"] / 10, row["b"] / 10] for row in settings]) / np.array(times)[:, None]
    constant, whole = np.linalg.lstsq(np.stack([rows[:, 0], rows[:, 1:] @ share], 1), np.ones(3), rcond=None)[0]
    aim = np.array([constant, *(whole * share)])
    ridge = latency_model.RIDGE * len(times) / np.mean(times) ** 2
    wanted = np.linalg.solve(rows.T @ rows + ridge * np.eye(3), rows.T @ np.ones(3) + ridge * aim)
    assert (wanted > 0).all()
    assert found.terms == pytest.approx({(): wanted[0], ("a",): wanted[1] / 10, ("b",): wanted[2] / 10}, rel=1e-6)


def test_what_the_times_do_not_tell_is_parted_by_operations() -> None:
    """Both nodes have the same widths: only equal speed says which of them takes how long."""
    nodes = [Polynomial({("a",): 30.0}), Polynomial({("a",): 10.0})]
    settings = [{"a": 10}, {"a": 5}, {"a": 2}]
    found = latency_model.fit_latency(nodes, settings, [4.5, 2.5, 1.3])
    assert found.terms == pytest.approx({(): 0.5, ("a",): 0.4}, rel=1e-3)


def test_least_squares_without_negative_numbers() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        matrix, wanted = generator.normal(size=(8, 3)), generator.normal(size=8)
        found = latency_model.not_negative(matrix, wanted)
        slope = matrix.T @ (matrix @ found - wanted)
        assert (found >= 0).all()
        assert slope[found > 0] == pytest.approx(0.0, abs=1e-6)
        assert (slope >= -1e-6).all()
    empty = np.zeros((3, 2))
    empty[:, 1] = 1.0
    assert latency_model.not_negative(empty, np.full(3, 2.0)).tolist() == [0.0, 2.0]


class Clock:
    """Sessions whose runs take as long as they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: list[list[float]]) -> None:
        self.asked: list[tuple[Sequence[Any], int]] = []

        def in_turns(sessions: Sequence[Any], inputs: Any, repeats: int) -> list[list[float]]:
            self.asked.append((sessions, repeats))
            return rows[: len(sessions)]

        monkeypatch.setattr(timing, "in_turns", in_turns)
        monkeypatch.setattr(latency_model, "session_of", lambda captured: captured)


def test_a_latency_is_the_median_and_a_measure_is_relative_to_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = shrinkspeech.capture(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)).eval(), (torch.randn(2, 4),))
    clock = Clock(monkeypatch, [[1.0, 5.0, 2.0], [1.2, 1.0, 4.0]])
    monkeypatch.setattr(latency_model, "SHARES", (0.5,))
    monkeypatch.setattr(latency_model, "MIXED", 0)
    latency = Latency(captured, shrinkspeech.label(captured))
    assert latency.original == 2.0
    small = captured.copy()
    assert latency.measure(small) == 2.0 * 1.2  # type: ignore[arg-type]
    assert clock.asked[0][0][0] is captured
    assert clock.asked[1][0] == [captured, small]
    assert clock.asked[1][1] == 2 * clock.asked[0][1]
    assert [x.shapes["linear"] for x in clock.asked[0][0]] == [((2, 6),), ((2, 3),)]
    assert latency.cost().at({"0": 6}) == pytest.approx(2.0, rel=0.01)
    assert latency.cost().at({"0": 3}) == pytest.approx(1.2, rel=0.01)


# -- size and parameters ------------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Six hidden units, each with 5 + 2 float weights, one whole number and one float that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.unread = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(9, 9)
        self.register_buffer("signs", torch.tensor([1, -1, 1, -1, 1, -1]))
        self.register_buffer("shift", torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x) * self.signs + self.shift)


def test_the_polynomial_of_a_size_counts_float_tensors_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = shrinkspeech.capture(Mixed().eval(), (torch.randn(2, 4),))
    monkeypatch.setattr("shrinkspeech.budget.size.onnx_bytes", lambda small: 1000.0)
    size = Size(captured, shrinkspeech.label(captured))
    assert size.cost().terms[("up",)] == 4 * (4 + 1 + 2 + 1)
    assert size.original == size.cost().at({"up": 6}) == 1000.0
    assert size.measure(captured) == 1000.0


def test_elements_of_tensors_by_hand() -> None:
    captured = shrinkspeech.capture(Mixed().eval(), (torch.randn(2, 4),))
    groups, tensors = shrinkspeech.label(captured), captured.parameters()
    cost = Params(captured, groups).cost()
    assert cost.at({"up": 6}) == sum(p.numel() for p in captured.graph_module.parameters())
    assert cost.terms[("up",)] == 4 + 1 + 2
    twice = {"one": tensors["up.weight"], "other": tensors["up.weight"], "unknown": torch.zeros(3, 5)}
    assert {key: value for key, value in tensor_elements(captured, groups, twice).terms.items() if value} == {
        ("up",): 4.0,
        (): 15.0,
    }


# -- widths -------------------------------------------------------------------------------------------------------


def goal(cost: dict[tuple[str, ...], float], full: dict[str, int], lowest: int = 1, step: int = 1) -> Goal:
    whole = Polynomial(cost)
    one, steps = dict.fromkeys(full, lowest), dict.fromkeys(full, step)
    return Goal(Flops, whole, full, one, steps, whole.at(full), whole.at(full), whole)


def test_what_is_furthest_above_its_real_width_is_cut_first() -> None:
    """a + b at most 11, from 8.9 and 4.0: rounded down they cost 12, and b is at its real width, a below it."""
    found = goal({("a",): 1.0, ("b",): 1.0}, {"a": 12, "b": 12})
    assert repair({"a": 8.9, "b": 4.0}, found, 11.0) == {"a": 8, "b": 3}
    assert repair({"a": 8.0, "b": 4.9}, found, 11.0) == {"a": 7, "b": 4}
    assert repair({"a": 0.0, "b": 9.9}, found, 9.0) == {"a": 1, "b": 8}


def test_what_is_left_goes_to_what_is_furthest_below_its_real_width() -> None:
    found = goal({("a",): 1.0, ("b",): 1.0}, {"a": 12, "b": 12})
    assert repair({"a": 8.9, "b": 2.8}, found, 11.0) == {"a": 8, "b": 3}
    assert repair({"a": 8.9, "b": 2.05}, found, 11.0) == {"a": 9, "b": 2}
    assert repair({"a": 8.9, "b": 2.8}, found, 100.0) == {"a": 12, "b": 12}


def test_real_widths_keep_their_ratios_and_stay_within_their_limits() -> None:
    """a + b = 9 from 4 : 2 is 6 : 3; where b may not be below 4, a has what is left; above the whole nothing grows."""
    logs = {"a": float(np.log(4.0)), "b": float(np.log(2.0))}
    cost = {("a",): 1.0, ("b",): 1.0}
    assert rescale(logs, goal(cost, {"a": 12, "b": 12}), 9.0) == pytest.approx({"a": 6.0, "b": 3.0})
    assert rescale(logs, goal(cost, {"a": 12, "b": 12}, lowest=4), 9.0) == pytest.approx({"a": 5.0, "b": 4.0})
    assert rescale(logs, goal(cost, {"a": 5, "b": 12}), 9.0) == pytest.approx({"a": 5.0, "b": 4.0})
    assert rescale(logs, goal(cost, {"a": 5, "b": 12}), 99.0) == {"a": 5, "b": 12}


def test_a_uniform_share_is_at_least_one_step() -> None:
    found = goal({("a",): 1.0, ("b",): 1.0}, {"a": 100, "b": 10}, step=4)
    assert uniform(found, 54.0) == {"a": 48, "b": 4}
    assert uniform(found, 12.0) == {"a": 8, "b": 4}


def test_levels_are_found_by_halving() -> None:
    """The highest level whose widths cost no more than the amount; all of the span where that is cheap enough."""
    found = goal({("a",): 2.0}, {"a": 100})
    widths = raised(found, 30.0, lambda name, level: level, (0.0, 64.0), 64.0, 30)
    assert widths["a"] == pytest.approx(15.0)
    assert widths["a"] <= 15.0
    assert raised(found, 500.0, lambda name, level: level, (0.0, 64.0), 64.0, 30) == {"a": 64.0}


def test_every_trade_that_comes_closer_is_found() -> None:
    """Against all widths: no single step less for a single step more of another comes closer, after the repair."""
    found = goal({("a",): 7.0, ("b",): 11.0, ("c",): 5.0}, {"a": 9, "b": 9, "c": 9})
    for amount in (60.0, 83.0, 101.0, 140.0):
        widths = repair({"a": 4.0, "b": 3.0, "c": 3.5}, found, amount)
        now = found.at(widths)
        for down, up in itertools.permutations(widths, 2):
            if widths[down] > 1 and widths[up] < 9:
                trial = found.at({**widths, down: widths[down] - 1, up: widths[up] + 1})
                assert now >= 0.995 * amount or not now < trial <= amount
