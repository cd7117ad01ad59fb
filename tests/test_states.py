"""States of streaming models: which output goes back into which input, both sides as one group, and the laws over chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.errors import InputError
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.graph.start import resumed, started
from shrinkspeech.groups.label import label
from shrinkspeech.loading.load import load
from shrinkspeech.surgery.depth import removable
from shrinkspeech.surgery.insert import gate
from shrinkspeech.surgery.slice import slice as slice_graph
from tests.streaming import (
    EXAMPLES,
    Caches,
    Delayed,
    Growing,
    GruVad,
    LstmVad,
    Packed,
    Rolling,
    Slots,
    in_chunks,
    kept_part,
    noise,
)

CLOSED = 1e-5


@pytest.fixture(scope="module")
def captures() -> dict[type[nn.Module], Captured]:
    return {kind: capture(kind(), example()) for kind, example in EXAMPLES.items()}


KINDS = pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)

PAIRS = {
    GruVad: [("h", "output_1")],
    LstmVad: [("a", "output_2"), ("b", "output_1")],  # by the layer: names say nothing, and the order would be wrong
    Caches: [("caches_0", "output_1_0"), ("caches_1", "output_1_1")],
    Rolling: [("past_key", "present_key"), ("past_value", "present_value")],
    Growing: [("past_key", "present_key"), ("past_value", "present_value")],
    Packed: [("state", "output_1")],
    Slots: [("slots", "output_1")],
    Delayed: [("last", "output_1"), ("traces", "output_2")],
}


@KINDS
def test_pairs_are_found(kind: Any, captures: Any) -> None:
    found = captures[kind].states
    assert [(state.source, state.result) for state in found] == PAIRS[kind]
    assert [state.grows for state in found] == [2 if kind is Growing else None] * len(found)
    assert not any("may be a state" in note for note in captures[kind].notes)


@KINDS
def test_no_axis_of_a_state_but_the_batch_is_dynamic(kind: Any, captures: Any) -> None:
    """And what a cache grows in; chunks may have any length, and the batch any size."""
    captured = captures[kind]
    batch = {GruVad: 1, LstmVad: 1, Slots: 2}.get(kind, 0)
    for state in captured.states:
        assert captured.dynamic[state.input] - {state.grows} == {batch}
    assert captured.dynamic[0] == {0, 1 if kind in (GruVad, LstmVad, Rolling, Growing, Slots) else 2}


@KINDS
def test_recurrent_widths_can_shrink(kind: Any, captures: Any) -> None:
    groups = label(captures[kind])
    sizes = sorted(group.size for group in groups.shrinkable)
    wanted = {
        GruVad: [8, 10],
        LstmVad: [6],
        Caches: [7, 8],
        Rolling: [3, 4, 4],
        Growing: [3, 4, 4],
        Packed: [4, 5, 9],
        Slots: [6],
        Delayed: [7],  # and not the three traces, which no weight has
    }
    assert sizes == wanted[kind]


@KINDS
def test_closed_equals_sliced_over_many_chunks(kind: Any, captures: Any) -> None:
    """Closed units hold noise in the states, and nothing of it reaches what stays; the kept states are the sliced ones."""
    captured = captures[kind]
    groups = label(captured)
    gated = gate(captured, groups)
    widths = {group.name: max(1, group.size // 2) for group in groups.shrinkable}
    generator = torch.Generator().manual_seed(0)
    ranks = gated.widths.ranks.with_scores(
        {name: torch.rand(groups[name].size, generator=generator) for name in widths}
    )
    gated.widths.set_ranks(ranks)
    gated.widths.set(widths)
    kept = ranks.best(widths)
    sliced = slice_graph(captured, groups, kept)
    chunks, full = noise(captured, 6)
    small = [kept_part(groups, s.source, x, kept) for s, x in zip(captured.states, full, strict=True)]
    assert [x.shape for x in small] == [_leaf(sliced, state.input).shape for state in sliced.states]
    assert all(x.numel() < y.numel() for x, y in zip(small, full, strict=True))
    wanted, left = in_chunks(sliced.graph_module, sliced, chunks, small)
    found, ends = in_chunks(gated, captured, chunks, full)
    assert max_difference(found, wanted) <= CLOSED
    parts = [
        kept_part(groups, s.source, x, kept) if s.grows is None else None
        for s, x in zip(captured.states, ends, strict=True)
    ]
    assert max_difference([x for x in parts if x is not None], left if parts[0] is not None else []) <= CLOSED


def _leaf(captured: Captured, index: int) -> Tensor:
    return torch.utils._pytree.tree_leaves(captured.example_inputs)[index]


@KINDS
def test_a_graph_that_starts_from_zeros(kind: Any, captures: Any) -> None:
    """It takes the signal alone, at any batch, sliced too, and has its states back afterwards."""
    captured = captures[kind]
    groups = label(captured)
    kept = {group.name: list(range(0, group.size, 2)) for group in groups.shrinkable}
    sliced, alone = slice_graph(captured, groups, kept), started(captured)
    small = slice_graph(alone, groups, kept)
    assert label(alone).by_name.keys() == groups.by_name.keys()
    assert len(torch.utils._pytree.tree_leaves(alone.example_inputs)) == 1
    zeros = [torch.zeros_like(_leaf(sliced, state.input)) for state in sliced.states]
    chunks, _ = noise(sliced, 3)
    wanted = in_chunks(sliced.graph_module, sliced, chunks, zeros)
    assert max_difference(_signal(small.graph_module(chunks[0])), wanted[0][0]) == 0.0
    assert _signal(small.graph_module(torch.cat([chunks[0]] * 2))).shape[0] == 4
    again = resumed(small, captured)
    assert again.states == captured.states
    assert [x.shape for x in map(lambda s: _leaf(again, s.input), again.states)] == [x.shape for x in zeros]
    assert max_difference(in_chunks(again.graph_module, again, chunks, zeros), wanted) == 0.0


@KINDS
def test_gradients_go_back_through_states(kind: Any, captures: Any) -> None:
    """Also through those that the model writes into while it goes."""
    module = started(captures[kind]).copy()
    chunks, _ = noise(captures[kind], 1)
    _signal(module(chunks[0])).square().sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())


def _signal(returned: Any) -> Tensor:
    return torch.utils._pytree.tree_leaves(returned)[0]


def test_states_survive_a_file(captures: Any, tmp_path: Path) -> None:
    captured = captures[GruVad]
    groups = label(captured)
    sliced = slice_graph(captured, groups, {group.name: 3 for group in groups.shrinkable})
    sliced.save(tmp_path / "small.pt2")
    again = load(tmp_path / "small.pt2")
    assert again.states == captured.states
    assert _leaf(again, 1).shape == (1, 2, 3)
    assert sorted(group.size for group in label(again).shrinkable) == [3, 3]


def test_a_state_that_is_written_into_survives_a_file(captures: Any, tmp_path: Path) -> None:
    captures[Slots].save(tmp_path / "slots.pt2")
    assert load(tmp_path / "slots.pt2").states == captures[Slots].states


def test_no_branch_vanishes_that_a_state_has(captures: Any) -> None:
    captured = captures[Caches]
    assert removable(captured, label(captured), slice_graph) == ()


# ------------------------------------------------------------------------------------------------- what is not paired


class Two(nn.Module):
    """Two states of one shape, which nothing tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, state_a: Tensor, state_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.linear(x)
        return y.sum(1), state_a + y.mean(1), state_b - y.mean(1)


TWO = (torch.randn(3, 5, 4), torch.zeros(3, 4), torch.zeros(3, 4))


def test_what_fits_twice_is_said_and_keeps_its_width() -> None:
    captured = capture(Two(), TWO)
    assert captured.states == ()
    assert [note for note in captured.notes if "may be a state" in note] == [
        f"input '{name}' may be a state, and comes back as output_0 or output_1 or output_2: say which with "
        f"--state {name}:output_0, or --state none; until then it keeps its width"
        for name in ("state_a", "state_b")
    ]
    assert label(captured).shrinkable == ()


def test_the_user_says_it() -> None:
    captured = capture(Two(), TWO, states=["state_a:output_1", "state_b:output_2"])
    assert [(state.source, state.result) for state in captured.states] == [
        ("state_a", "output_1"),
        ("state_b", "output_2"),
    ]
    one = capture(Two(), TWO, states=["state_a:output_1"])
    assert [state.source for state in one.states] == ["state_a"]


def test_none_switches_it_off() -> None:
    captured = capture(GruVad(), EXAMPLES[GruVad](), states=["none"])
    assert captured.states == ()
    assert {group.size: group.frozen for group in label(captured) if group.size == 10} == {10: "model input 'h'"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["g:output_1"], "--state g:output_1: there is no input 'g', the model has x, h"),
        (["h:y"], "--state h:y: there is no output 'y', the model has output_0, output_1"),
        (["h"], "--state h: there is no output ''"),
        (["h:output_0"], "a state comes back in its own shape, and 'h' is 1x2x10 where 'output_0' is 2x9"),
        (["h:output_1", "h:output_1"], "--state names 'h' in two pairs"),
        (["none", "h:output_1"], "--state none says that the model has no states"),
    ],
)
def test_slips_of_the_pen_are_refused(said: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        capture(GruVad(), EXAMPLES[GruVad](), states=said)


class Echo(nn.Module):
    """A second signal, which is no state though an output has its shape; and lengths, which are none either."""

    def forward(self, x: Tensor, far: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (x - 0.5 * far).unsqueeze(1), far * 0.5 + x, lengths // 2


def test_signals_and_lengths_are_no_states() -> None:
    captured = capture(Echo(), (torch.randn(2, 800), torch.randn(2, 800), torch.tensor([800, 600])))
    assert captured.states == ()
    assert not any("state" in note for note in captured.notes)


class Single(nn.Module):
    """One output alone: there is nothing beside it for which a state would be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.linear(x).mean(1) + bias


def test_a_model_of_one_output_has_no_state() -> None:
    assert capture(Single(), (torch.randn(2, 5, 6), torch.randn(2, 4))).states == ()


# --------------------------------------------------------------------------------------------------------- the example


def test_states_of_an_example_by_shape_are_zero() -> None:
    captured = load("tests/streaming.py:GruVad", example=["1x9x12", "1x1x10"])
    x, h = captured.example_inputs
    assert (x.shape, h.shape) == ((2, 9, 12), (1, 2, 10)), "the batch of one was not doubled where each input has it"
    assert bool(x.any())
    assert not bool(h.any())
    assert not any("not zero" in note for note in captured.notes)


def test_states_that_are_not_zero_are_said() -> None:
    captured = load("tests/streaming.py:GruVad", example_inputs=(torch.randn(2, 9, 12), torch.ones(1, 2, 10)))
    assert (
        "the state 'h' is not zero in the example: fits and comparisons start from zeros all the same" in captured.notes
    )


def test_what_a_model_writes_into_its_state_stays_inside(captures: Any) -> None:
    captured = captures[Caches]
    chunks, states = noise(captured, 1)
    before = [state.clone() for state in states]
    in_chunks(captured.graph_module, captured, chunks, states)
    assert max_difference(states, before) == 0.0
