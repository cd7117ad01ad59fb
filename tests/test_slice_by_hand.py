"""What slicing does to units, tensors, literals and what an optimiser remembers, and what it refuses, on a tiny model."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.axes.algebra import Fixed, Label, Product, Sum
from shrinkspeech.errors import InputError, SliceError
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Group, Groups
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.insert import gate
from shrinkspeech.surgery.slice import _put, _units, slice_tensors
from shrinkspeech.surgery.slice import slice as slice_graph


class Small(nn.Module):
    """``[B, T, 4]`` → ``[B, T, 2]`` over 6 units, with a buffer, a parameter that is not trained, and views."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("offset", torch.arange(6.0))
        self.fixed = nn.Parameter(torch.rand(6), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        y = self.up(x) * self.fixed + self.offset
        return self.down(y.view(batch * time, 6).relu()).view(batch, time, 2)


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return capture(Small().eval(), (torch.randn(3, 5, 4),))


@pytest.fixture(scope="module")
def groups(captured: Captured) -> Groups:
    return label(captured)


def test_every_tensor_is_indexed_by_its_axes(captured: Captured, groups: Groups) -> None:
    small, whole = slice_graph(captured, groups, {"up": [5, 0, 3]}).parameters(), captured.parameters()
    units = [0, 3, 5]
    wanted = {
        "up.weight": whole["up.weight"][units],
        "up.bias": whole["up.bias"][units],
        "offset": torch.tensor([0.0, 3.0, 5.0]),
        "fixed": whole["fixed"][units],
        "down.weight": whole["down.weight"][:, units],
        "down.bias": whole["down.bias"],
    }
    assert small.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(small[name], tensor), name
        assert isinstance(small[name], nn.Parameter) == isinstance(whole[name], nn.Parameter)
        assert small[name].is_contiguous()
        assert small[name].data_ptr() != whole[name].data_ptr()


def test_the_small_graph_computes_with_the_units_that_are_left(captured: Captured, groups: Groups) -> None:
    small = slice_graph(captured, groups, {"up": 4})
    weights = captured.parameters()
    [x] = captured.example_inputs
    y = (x @ weights["up.weight"][:4].T + weights["up.bias"][:4]) * weights["fixed"][:4] + torch.arange(4.0)
    wanted = y.relu() @ weights["down.weight"][:, :4].T + weights["down.bias"]
    torch.testing.assert_close(small.graph_module(x), wanted)
    assert small.shapes["linear"] == ((3, 5, 4),)
    assert small.shapes["view"] == ((15, 4),)
    assert set(small.numbers) == set(captured.numbers)
    assert not any("val" in node.meta for node in small.graph_module.graph.nodes if node.op != "placeholder")
    assert not small.graph_module.training


def test_the_original_is_left_alone(captured: Captured, groups: Groups) -> None:
    before = copy.deepcopy(captured.parameters())
    small = slice_graph(captured, groups, {"up": 6})
    with torch.no_grad():
        for tensor in small.parameters().values():
            tensor.fill_(7.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in captured.parameters().items())
    assert captured.shapes["linear"] == ((3, 5, 6),)


def test_a_tensor_under_two_names_stays_one() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False), nn.Linear(6, 2)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.a(x).relu() + self.b(x + 1.0))

    captured = capture(Shared().eval(), (torch.randn(2, 4),))
    found = label(captured)
    [group] = found.shrinkable
    for width in (6, 3):
        small = slice_graph(captured, found, {group.name: width}).graph_module
        tensors = [
            tensor for name, tensor in small.state_dict(keep_vars=True).items() if name in ("a.weight", "b.weight")
        ]
        assert {id(tensor) for tensor in tensors} == {id(tensors[0])}
        assert tensors[0].shape == (width, 4)


def test_a_graph_of_which_a_copy_was_trained_is_refused() -> None:
    captured = capture(Small().eval(), (torch.randn(3, 5, 4),))
    gated = gate(captured, label(captured))
    slice_graph(captured, gated.groups, {"up": 3})
    with torch.no_grad():
        gated.graph.get_parameter("up.weight").add_(1.0)
    with pytest.raises(InputError, match="has been trained since"):
        slice_graph(captured, gated.groups, {"up": 3})


def test_a_label_that_does_not_hold_is_found_before_the_graph_is_used(captured: Captured, groups: Groups) -> None:
    """Without its literals the view has the old size; without an axis the sizes are others than promised."""
    effects = {name: replace(effect, literals=()) for name, effect in groups.effects.items()}
    with pytest.raises(SliceError, match=r"the sliced graph fails at view \(.*test_slice_by_hand\.py:\d+\): "):
        slice_graph(captured, replace(groups, effects=effects), {"up": 3})
    axes = {**groups.axes, "linear": ((Fixed(3), Fixed(5), Fixed(6)),)}
    words = r"linear \(.*py:\d+\) has shape \(\(3, 5, 3\),\) after slicing where \(\(3, 5, 6\),\) was expected"
    with pytest.raises(SliceError, match=words):
        slice_graph(captured, replace(groups, axes=axes), {"up": 3})


# -- units --------------------------------------------------------------------------------------------------------

A, B = Label(1, 6), Label(2, 3)
RECORD = Groups({"a": Group("a", A, min_width=2), "b": Group("b", B, frozen="model input")}, {}, {}, {})


def test_units_by_number_or_by_name() -> None:
    assert _units(RECORD, "a", 4) == [0, 1, 2, 3]
    assert _units(RECORD, "a", (5, 2, 3)) == [2, 3, 5]
    assert _units(RECORD, "b", 3) == _units(RECORD, "b", [2, 0, 1]) == [0, 1, 2]
    assert _units(RECORD.restrict(min_width=0), "a", 2) == [0, 1]
    empty = replace(RECORD, by_name={"a": Group("a", A, min_width=0)})
    assert _units(empty, "a", []) == _units(empty, "a", 0) == []
    small = replace(RECORD, by_name={"a": Group("a", Label(1, 1), min_width=2)})
    assert _units(small, "a", 1) == [0]


@pytest.mark.parametrize("units", [7, 1, [0], [1, 1, 2], [-1, 2], [3, 6], []])
def test_units_that_there_are_not(units: Any) -> None:
    with pytest.raises(SliceError, match=r"^group 'a' has units 0 to 5; at least 2 of them must be kept, each once$"):
        _units(RECORD, "a", units)


def test_groups_that_there_are_not() -> None:
    with pytest.raises(SliceError, match="there is no group 'c'"):
        _units(RECORD, "c", 1)
    for units in (2, [0, 1]):
        with pytest.raises(SliceError, match="group 'b' may not shrink: model input"):
            _units(RECORD, "b", units)
    one = replace(RECORD, by_name={"a": Group("a", A)})
    with pytest.raises(SliceError, match="at least one of them"):
        _units(one, "a", 0)


# -- literals and optimisers --------------------------------------------------------------------------------------


def test_a_number_is_put_anywhere() -> None:
    assert _put(8, [], 3) == 3
    assert _put([2, 8, 7], [1], 3) == [2, 3, 7]
    assert _put([[1, 2], [8, 7]], [1, 0], 3) == [[1, 2], [3, 7]]


def test_what_an_optimiser_remembers_is_indexed_as_the_parameter() -> None:
    groups = replace(RECORD, parameters={"w": (Product((A, Fixed(2))), B), "c": (Sum((B, A)),), "scale": ()})
    full = torch.arange(36.0).view(12, 3)
    memory = {
        "w": {"exp_avg": full, "step": torch.tensor(4.0), "row": torch.arange(12.0), "name": "adam"},
        "c": {"exp_avg": torch.arange(9.0)},
        "scale": {"exp_avg": torch.tensor(2.0)},
        "other": {"exp_avg": torch.arange(6.0)},
    }
    found = slice_tensors(memory, groups, {"a": [1, 4]})
    assert torch.equal(found["w"]["exp_avg"], full[[2, 3, 8, 9]])
    assert torch.equal(found["c"]["exp_avg"], torch.tensor([0.0, 1.0, 2.0, 4.0, 7.0]))
    assert found["w"]["step"] is memory["w"]["step"]
    assert found["w"]["row"] is memory["w"]["row"]
    assert found["w"]["name"] == "adam"
    assert found["scale"]["exp_avg"] is memory["scale"]["exp_avg"]
    assert found["other"]["exp_avg"] is memory["other"]["exp_avg"]
    assert found.keys() == memory.keys()
