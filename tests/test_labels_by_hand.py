"""What labelling says of a graph, by hand: names, owners and carriers of groups, constants, and what accounts for an axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from shrinkspeech.axes.algebra import Axes, Fixed, Label, Product, Sum
from shrinkspeech.axes.unifier import Unifier
from shrinkspeech.errors import RuleError
from shrinkspeech.graph.capture import capture
from shrinkspeech.groups.flops import flops
from shrinkspeech.groups.groups import Carrier, Group, Groups
from shrinkspeech.groups.label import _unique_names, label
from shrinkspeech.groups.remedies import REMEDIES, remedy
from shrinkspeech.groups.rule_check import check_nothing_lost, check_sizes
from shrinkspeech.rules.registry import Effect, Fold, Literal, Masked, Read, Term


class Backwards(nn.Module):
    """Its layers are made in another order than they are used; one vector belongs to the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 2)
        self.scale = nn.Parameter(torch.randn(8))
        self.unused = nn.Linear(2, 2)
        self.first = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.scale)


@pytest.fixture(scope="module")
def groups() -> Groups:
    return label(capture(Backwards().eval(), (torch.randn(3, 6),)))


def test_names_owners_and_carriers_by_hand(groups: Groups) -> None:
    """A group belongs to the module that computes it, else to the one whose parameter carries it."""
    found = {group.name: (group.size, group.where, group.frozen, group.carriers) for group in groups}
    assert found == {
        "first": (
            8,
            "first",
            "",
            (
                Carrier("scale", 0),
                Carrier("last.weight", 1),
                Carrier("first.weight", 0),
                Carrier("first.bias", 0),
            ),
        ),
        "last": (2, "last", "model output", (Carrier("last.weight", 0), Carrier("last.bias", 0))),
        "first#1": (6, "first", "model input 'x'", (Carrier("first.weight", 1),)),
    }
    assert [group.name for group in groups.shrinkable] == ["first"]
    assert len(groups) == 3
    assert not groups.unknown


def test_axes_of_nodes_and_parameters_by_hand(groups: Groups) -> None:
    eight, two, six = (groups[name].label for name in ("first", "last", "first#1"))
    assert {name: axes for name, axes in groups.parameters.items() if "unused" not in name} == {
        "last.weight": (two, eight),
        "last.bias": (two,),
        "scale": (eight,),
        "first.weight": (eight, six),
        "first.bias": (eight,),
    }
    assert [groups.axes[name] for name in ("x", "linear", "mul", "linear_1")] == [
        ((Fixed(3), Fixed(6)),),
        ((Fixed(3), eight),),
        ((Fixed(3), eight),),
        ((Fixed(3), two),),
    ]
    assert {fixed.why for axes in groups.axes["x"] for fixed in axes if isinstance(fixed, Fixed)} == {"model input 'x'"}


def test_names_are_numbered_where_a_module_has_several() -> None:
    """Only those that may shrink compete for the plain name, where there is one."""
    a, b, c, d, e, f, g, h = (Label(i, 2) for i in range(8))
    wanted = {a: "one", b: "one", c: "two", d: "two", e: "", f: "three", g: "four", h: "four"}
    free = {b, c, d, e}
    assert _unique_names(wanted, free.__contains__) == {
        a: "one#1",
        b: "one",
        c: "two#0",
        d: "two#1",
        e: "model",
        f: "three",
        g: "four#0",
        h: "four#1",
    }
    assert list(_unique_names(wanted, free.__contains__)) == list(wanted)


def test_what_is_computed_from_constants_alone_is_read_last() -> None:
    """A gate stands on the feature, also where the matrix comes first and was transposed on the way."""

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.matrix = nn.Conv1d(6, 8, 1), nn.Parameter(torch.randn(8, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.matrix.t() @ self.first(x)

    found = label(capture(Turned().eval(), (torch.randn(2, 6, 5),)))
    reads = [read for effect in found.effects.values() for read in effect.reads if found.moves(read.axis)]
    assert [str(read.node) for read in reads] == ["conv1d"]


# -- records ------------------------------------------------------------------------------------------------------

A, B, C = Label(1, 4), Label(2, 6), Label(3, 5)
RECORD = Groups(
    {
        "a": Group("a", A, where="enc", carriers=(Carrier("enc.weight", 0),)),
        "b": Group("b", B, where="dec", min_width=2),
        "c": Group("c", C, frozen="model input"),
    },
    axes={"node": ((A, Product((Fixed(2), B))), (Sum((A, C)),))},
    effects={"node": Effect(outputs=((A,),), left=(Sum((B, Fixed(1))),))},
    parameters={"w": (A, B)},
    unknown={"node": "op"},
)


def test_a_record_by_hand() -> None:
    assert [RECORD.of(x).name for x in (A, B, C)] == ["a", "b", "c"]
    assert [RECORD.moves(axis) for axis in (A, C, Product((C, B)), Fixed(3))] == [True, False, True, False]
    assert RECORD.kept_index(Product((A, Fixed(2))), {"a": [1, 3]}) == [2, 3, 6, 7]
    assert RECORD.kept_index(Sum((A, B)), {"b": [5]}) == [0, 1, 2, 3, 9]
    assert RECORD.size_of(Product((A, B)), {"a": 3}) == 18
    assert RECORD.size_of(Sum((A, B)), {"a": 1, "b": 2}) == 3
    assert [group.shrinkable for group in RECORD] == [True, True, False]
    assert not replace(RECORD["b"], min_width=6).shrinkable


def test_a_narrowed_record_by_hand() -> None:
    small = RECORD.narrowed({"a": [0, 2, 3], "b": [4]})
    assert [(group.name, group.size, group.min_width) for group in small] == [("a", 3, 1), ("b", 1, 1), ("c", 5, 1)]
    a, b = Label(1, 3), Label(2, 1)
    assert small.axes == {"node": ((a, Product((Fixed(2), b))), (Sum((a, C)),))}
    assert small.effects["node"].outputs == ((a,),)
    assert small.effects["node"].left == (Sum((b, Fixed(1))),)
    assert small.parameters == {"w": (a, b)}
    assert small.unknown == {"node": "op"}
    assert small["a"].carriers == (Carrier("enc.weight", 0),)
    assert RECORD.narrowed({"b": range(5)})["b"].min_width == 2


def test_restrictions_by_hand() -> None:
    def reasons(**options: Any) -> list[str]:
        return [group.frozen for group in RECORD.restrict(**options)]

    assert reasons() == ["", "", "model input"]
    assert reasons(exclude=["a"]) == ["excluded by --exclude", "", "model input"]
    assert reasons(exclude=["enc*"]) == reasons(exclude=["*.weight"]) == reasons(exclude=["a"])
    assert reasons(only=["b"]) == ["not named by --only", "", "model input"]
    assert reasons(only=["d?c"]) == reasons(only=["b"])
    assert reasons(only=["[ab]"], exclude=["b"]) == ["", "excluded by --exclude", "model input"]
    assert reasons(only=["b"], exclude=["a"]) == ["excluded by --exclude", "", "model input"]
    assert [group.min_width for group in RECORD.restrict()] == [1, 2, 1]
    assert [group.min_width for group in RECORD.restrict(min_width=5)] == [4, 5, 5]


def test_flops_label_for_themselves_and_take_widths_and_seconds() -> None:
    captured = capture(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)).eval(), (torch.randn(4, 3),))
    found = label(captured)
    assert flops(captured) == flops(captured, found) == 2 * (3 * 8 + 8 * 2)
    assert flops(captured, found, {"0": 5.0}, seconds=0.5) == 2 * 2 * (3 * 5 + 5 * 2)
    assert flops(captured, found.restrict(exclude=["0"]), {"0": 5.0}) == flops(captured)


def test_remedies() -> None:
    for words, text in REMEDIES.items():
        assert remedy(f"aten.op {words} (model.py:3)") == text
    assert remedy("model input 'x'") == ""


# -- what a rule may say ------------------------------------------------------------------------------------------


def node_of(*sources: str) -> fx.Node:
    graph = fx.Graph()
    inputs = [graph.placeholder(name) for name in sources]
    return graph.call_function(torch.ops.aten.add.Tensor, tuple(inputs))


@pytest.mark.parametrize(
    "accounts",
    [
        {"outputs": ((Fixed(2),), (Fixed(2), A))},
        {"reads": (Read(node_of("x"), 1, A),)},
        {"masked": Masked(torch.mean, (Fixed(2), A))},
        {"literals": (Literal((1,), None), Literal((1,), A))},
        {"left": (Fixed(2), A)},
        {"left": (Product((Fixed(2), Sum((B, A)))),)},
    ],
    ids=["output", "read", "masked", "literal", "left", "inside"],
)
def test_each_way_to_account_for_an_axis_is_enough(accounts: dict[str, Any]) -> None:
    node = node_of("x")
    entering: dict[fx.Node, tuple[Axes, ...]] = {node.args[0]: ((Fixed(2), A),)}  # type: ignore[dict-item]
    check_nothing_lost(node, Effect(**{"outputs": ((Fixed(2),),), **accounts}), entering, Unifier(), "here")
    others = {
        "outputs": ((B,),),
        "reads": (Read(node, 1, B),),
        "literals": (Literal((1,), None),),
        "left": (Fixed(4), B),
        "extra": (Term(1.0, (A,)),),
    }
    with pytest.raises(RuleError, match=r"loses an axis at .* \(here\): the 4 units on axis 1 of its argument x"):
        check_nothing_lost(node, Effect(**others), entering, Unifier(), "here")  # type: ignore[arg-type]


def test_what_is_frozen_or_was_merged_is_not_lost() -> None:
    unifier, node = Unifier(), node_of("x", "y")
    a, b, c = unifier.fresh(4), unifier.fresh(4), unifier.fresh(3)
    unifier.unify(a, b, "add")
    unifier.freeze(c, "taken whole")
    entering = dict(zip(node.all_input_nodes, (((a,),), ((c,), (b,))), strict=True))
    check_nothing_lost(node, Effect(outputs=((b,),)), entering, unifier, "here")
    with pytest.raises(RuleError, match="the 4 units on axis 0 of its argument x"):
        check_nothing_lost(node, Effect(outputs=((c,),)), entering, unifier, "here")


def test_sizes_are_those_of_torch() -> None:
    node = node_of("x")
    check_sizes(node, Effect(outputs=((A, Fixed(2)), (B,))), [(4, 2), (6,)], "here")
    check_sizes(node, Effect(outputs=()), [], "here")
    for shapes in ([(4, 2)], [(4, 2), (5,)], [(2, 4), (6,)]):
        with pytest.raises(RuleError, match="says sizes"):
            check_sizes(node, Effect(outputs=((A, Fixed(2)), (B,))), shapes, "here")


def test_an_effect_is_changed_in_all_its_parts() -> None:
    node = node_of("x")
    effect = Effect(
        outputs=((A, Fixed(2)), (A,)),
        reads=(Read(node, 1, A, outer=Product((A, B)), inner=A),),
        terms=(Term(2.0, (A, B)),),
        literals=(Literal((1,), A), Literal((2, "size"), None)),
        masked=Masked(torch.mean, (A,)),
        folds=(Fold(node, 0, 1, A, node, 2, None),),
        extra=(Term(3.0, (A,)),),
        left=(A,),
    )
    changed = effect.mapped(lambda axis: B if axis == A else Product((B, B)) if axis == Product((A, B)) else axis)
    assert changed == Effect(
        outputs=((B, Fixed(2)), (B,)),
        reads=(Read(node, 1, B, outer=Product((B, B)), inner=B),),
        terms=(Term(2.0, (B, B)),),
        literals=(Literal((1,), B), Literal((2, "size"), None)),
        masked=Masked(torch.mean, (B,)),
        folds=(Fold(node, 0, 1, B, node, 2, None),),
        extra=(Term(3.0, (B,)),),
        left=(B,),
    )
    assert Effect(outputs=((A,),)).mapped(lambda axis: axis) == Effect(outputs=((A,),))
