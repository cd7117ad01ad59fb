"""How a branch of width 0 leaves a graph, step by step, on graphs of a few nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import apply, linear
from torch import Tensor, fx, nn

from shrinkspeech.errors import SliceError
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.depth import (
    CONSTANT,
    _collapsed,
    _drop_empty,
    _drop_zero_additions,
    _is_zero,
    _propagate,
    allow_empty,
    removable,
)
from shrinkspeech.surgery.slice import slice as slice_graph

aten = torch.ops.aten


def graph(build: Callable[[fx.Graph, fx.Node], Any], **tensors: Tensor) -> fx.GraphModule:
    """A graph over one input ``x`` and some buffers."""
    root, found = nn.Module(), fx.Graph()
    for name, tensor in tensors.items():
        root.register_buffer(name, tensor)
    found.output(build(found, found.placeholder("x")))
    module = fx.GraphModule(root, found)
    for name, tensor in tensors.items():  # a graph takes along what it reads alone
        module.register_buffer(name, tensor)
    return module


def operators(module: fx.GraphModule) -> list[str]:
    return [node.target._opname for node in module.graph.nodes if node.op == "call_function"]


def held(module: fx.GraphModule) -> Captured:
    """As far as the passes look into it."""
    return Captured(module, (torch.ones(2, 3),), (), {}, {"n": 3})


ZERO, ONES = torch.zeros(1, 1), torch.ones(1, 3)


def test_one_element_stays_along_every_axis_that_does_not_change() -> None:
    ramp = torch.arange(3.0)
    assert torch.equal(_collapsed(ramp.expand(2, 4, 3)), ramp.view(1, 1, 3))
    assert torch.equal(_collapsed(ramp[:, None].expand(3, 4)), ramp.view(3, 1))
    assert _collapsed(torch.full((2, 2), 5.0)).tolist() == [[5.0]]
    mixed = torch.tensor([[1.0, 1.0], [1.0, 2.0]])
    assert torch.equal(_collapsed(mixed), mixed)


def test_which_nodes_are_zero() -> None:
    some = torch.tensor([0.0, 1.0])
    tensors = {f"a{CONSTANT}": ZERO, f"b{CONSTANT}": ONES, f"c{CONSTANT}": some, "zeros": ZERO}
    module = graph(lambda g, x: x, **tensors)
    constants = [module.graph.create_node("get_attr", name) for name in tensors]
    assert [_is_zero(module, node) for node in constants] == [True, False, False, False]
    computed = module.graph.call_function(aten.relu.default, (constants[0],), name=f"d{CONSTANT}")
    placeholder = next(iter(module.graph.nodes))
    assert [_is_zero(module, item) for item in (computed, placeholder, 0.0, None)] == [False] * 4


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("operator", [aten.add.Tensor, aten.add_.Tensor])
def test_an_addition_of_zeros_is_dropped(first: bool, operator: Any) -> None:
    def build(g: fx.Graph, x: fx.Node) -> fx.Node:
        y, zero = g.call_function(aten.relu.default, (x,)), g.get_attr(f"a{CONSTANT}")
        total = g.call_function(operator, (zero, y) if first else (y, zero))
        return g.call_function(aten.neg.default, (total,))

    module = graph(build, **{f"a{CONSTANT}": ZERO})
    _drop_zero_additions(module)
    assert operators(module) == ["relu", "neg"]
    module.recompile()
    assert torch.equal(module(ONES), -ONES)


@pytest.mark.parametrize(
    "build",
    [
        lambda g, x: g.call_function(aten.add.Tensor, (x, g.get_attr(f"b{CONSTANT}"))),
        lambda g, x: g.call_function(aten.add.Tensor, (x, g.get_attr("zeros"))),
        lambda g, x: g.call_function(aten.add.Tensor, (x, g.get_attr(f"a{CONSTANT}")), {"alpha": 2}),
        lambda g, x: g.call_function(aten.add.Tensor, (g.get_attr("zeros"), g.get_attr(f"a{CONSTANT}"))),
        lambda g, x: g.call_function(aten.mul.Tensor, (x, g.get_attr(f"a{CONSTANT}"))),
        lambda g, x: g.call_function(aten.add.Tensor, (g.get_attr(f"a{CONSTANT}"), 1.0)),
    ],
    ids=["no zeros", "the user's own zeros", "with options", "of constants", "no addition", "to a number"],
)
def test_other_nodes_stay(build: Any) -> None:
    module = graph(build, **{f"a{CONSTANT}": ZERO, f"b{CONSTANT}": ONES, "zeros": ZERO})
    before = operators(module)
    _drop_zero_additions(module)
    assert operators(module) == before


def test_what_depends_on_a_constant_alone_is_computed_once() -> None:
    """relu(c) · w, then a view that takes a size from the graph, in the shape that the tensor in its place has."""

    def build(g: fx.Graph, x: fx.Node) -> fx.Node:
        constant, weight = g.get_attr(f"a{CONSTANT}"), g.get_attr("w")
        y = g.call_function(aten.mul.Tensor, (g.call_function(aten.relu.default, (constant,)), weight))
        size = g.call_function(aten.sym_size.int, (x, 1), name="n")
        viewed = g.call_function(aten.view.default, (y, [-1, size]), name="view")
        return g.call_function(aten.add.Tensor, (x, viewed))

    module = graph(build, **{f"a{CONSTANT}": torch.tensor([[2.0]]), "w": torch.tensor([1.0, 2.0, 3.0])})
    node = next(node for node in module.graph.nodes if node.op == "get_attr")
    fresh = {node: (2, 3)}
    _propagate(module, held(module), fresh)
    module.recompile()
    module.graph.eliminate_dead_code()
    assert operators(module) == ["add"]
    assert torch.equal(module(ONES), torch.tensor([[3.0, 5.0, 7.0]]))
    assert (2, 3) in list(fresh.values())[1:]
    assert {name: tuple(tensor.shape) for name, tensor in module.named_buffers() if name.startswith("view")} == {
        f"view{CONSTANT}": (1, 3)
    }


def test_what_depends_on_something_else_is_not_computed() -> None:
    def build(g: fx.Graph, x: fx.Node) -> fx.Node:
        constant, weight = g.get_attr(f"a{CONSTANT}"), g.get_attr("w")
        sum_ = g.call_function(aten.add.Tensor, (x, constant))
        return g.call_function(aten.mul.Tensor, (g.call_function(aten.relu.default, (weight,)), sum_))

    module = graph(build, **{f"a{CONSTANT}": ONES, "w": ONES})
    node = next(node for node in module.graph.nodes if node.op == "get_attr")
    _propagate(module, held(module), {node: (1, 3)})
    assert operators(module) == ["add", "relu", "mul"]


def test_dropout_and_norms_of_a_constant_are_those_of_evaluation() -> None:
    def build(g: fx.Graph, x: fx.Node) -> fx.Node:
        dropped = g.call_function(aten.dropout.default, (g.get_attr(f"a{CONSTANT}"), 0.5, True), name="drop")
        return g.call_function(aten.add.Tensor, (x, dropped))

    module = graph(build, **{f"a{CONSTANT}": ONES})
    node = next(node for node in module.graph.nodes if node.op == "get_attr")
    _propagate(module, held(module), {node: (4, 3)})
    assert module.get_buffer(f"drop{CONSTANT}").tolist() == [[1.0]]


def test_a_constant_that_cannot_be_computed_is_refused() -> None:
    def build(g: fx.Graph, x: fx.Node) -> fx.Node:
        return g.call_function(aten.view.default, (g.get_attr(f"a{CONSTANT}"), [7]), name="view")

    module = graph(build, **{f"a{CONSTANT}": ONES})
    node = next(node for node in module.graph.nodes if node.op == "get_attr")
    with pytest.raises(SliceError, match="view cannot be computed from a branch of width 0: "):
        _propagate(module, held(module), {node: (1, 3)})


def test_what_nobody_reads_and_is_empty_or_of_a_branch_is_forgotten() -> None:
    module = graph(
        lambda g, x: g.call_function(aten.mul.Tensor, (x, g.get_attr(f"used{CONSTANT}"))),
        **{f"used{CONSTANT}": ONES, f"gone{CONSTANT}": ONES, "empty": torch.zeros(0, 3), "own": ONES},
    )
    module.add_module("inner", nn.Module())
    module.inner.register_parameter("empty", nn.Parameter(torch.zeros(0)))
    module.inner.register_parameter("own", nn.Parameter(torch.zeros(1)))
    _drop_empty(module)
    assert set(module.state_dict()) == {f"used{CONSTANT}", "own", "inner.own"}


# -- what may vanish ----------------------------------------------------------------------------------------------


def branch(forward: Any, **layers: Any) -> Captured:
    torch.manual_seed(0)
    return capture(
        apply(forward, **{"up": linear(6, 8), "down": linear(8, 6), **layers})().eval(), (torch.randn(3, 5, 6),)
    )


def test_the_bias_of_the_reader_takes_the_place_of_the_branch() -> None:
    captured = branch(lambda m, x: x + m.down(m.up(x).relu()))
    groups = label(captured)
    assert removable(captured, groups, slice_graph) == ("up",)
    small = slice_graph(captured, allow_empty(groups, ["up"]), {"up": []})
    [x] = captured.example_inputs
    torch.testing.assert_close(small.graph_module(x), x + captured.parameters()["down.bias"])
    assert operators(small.graph_module) == ["add"]
    [constant] = (tensor for name, tensor in small.parameters().items() if name.endswith(CONSTANT))
    assert constant.shape == (1, 1, 6)
    assert "down.weight" not in small.parameters()


def test_a_group_that_may_be_empty_need_not_be() -> None:
    captured = branch(lambda m, x: x + m.down(m.up(x).relu()))
    groups = allow_empty(label(captured), ["up"])
    assert groups["up"].min_width == 0
    assert allow_empty(label(captured), ["other"])["up"].min_width == 1
    small = slice_graph(captured, groups, {"up": 3})
    assert operators(small.graph_module) == operators(captured.graph_module)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: x + m.up(x).mean(-1, keepdim=True),
        lambda m, x: x + (m.up(x) @ m.up(x).transpose(1, 2)).sum(-1, keepdim=True),
    ],
    ids=["a mean", "two features"],
)
def test_a_group_that_something_else_reads_may_not_vanish(forward: Any) -> None:
    captured = branch(forward)
    groups = label(captured)
    [group] = groups.shrinkable
    assert removable(captured, groups, slice_graph) == ()
    with pytest.raises(SliceError):
        slice_graph(captured, allow_empty(groups, [group.name]), {group.name: []})


def test_units_of_the_reader_that_go_too_are_missing_in_the_constant() -> None:
    """down's own units 1 and 3 of 6 are kept while its input vanishes."""
    captured = branch(lambda m, x: m.out(m.mid(x) + m.down(m.up(x).relu())), mid=linear(6, 6), out=linear(6, 2))
    groups = label(captured)
    trunk = next(group.name for group in groups.shrinkable if group.size == 6)
    small = slice_graph(captured, allow_empty(groups, ["up"]), {"up": [], trunk: [1, 3]})
    constant = next(tensor for name, tensor in small.parameters().items() if name.endswith(CONSTANT))
    torch.testing.assert_close(constant.flatten(), captured.parameters()["down.bias"][[1, 3]].detach())
