"""Which outputs of a model are inputs of its next chunk: GRU and LSTM states, convolution caches, keys and values of attention.

Pairs are found, never guessed: a state input and an output of one shape that are named alike, stand at one place of one
container, are the two ends of one recurrent layer, or are the only ones that fit each other. Whatever else might be a state is
named in a note, and the user says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import getitem
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured, State
from shrinkspeech.graph.ends import STATEFUL, End, fits, inputs_of, lengths_of, outputs_of, sizes_text
from shrinkspeech.graph.inplace import mutates, owner_of
from shrinkspeech.graph.modes import is_recurrent
from shrinkspeech.graph.states import own_states, without_state_axes

NONE = "none"
"""What the user says where the model has no states."""

VIEWS = frozenset("view reshape squeeze unsqueeze permute transpose contiguous clone alias to _to_copy".split())
"""Operators that give the same numbers in another shape."""

Pair = tuple[End, End]


def with_states(captured: Captured, said: Sequence[str] = ()) -> Captured:
    """The record with its states, none of whose axes are dynamic but the batch.

    Args:
        said: as for ``find_states``.

    Raises:
        InputError: as there.
    """
    found, doubts = find_states(captured, said)
    captured = replace(captured, states=found, notes=(*captured.notes, *doubts))
    return own_states(replace(captured, dynamic=without_state_axes(captured)))


def find_states(captured: Captured, said: Sequence[str] = ()) -> tuple[tuple[State, ...], tuple[str, ...]]:
    """The states of a captured graph, and notes on what may be one.

    Args:
        said: pairs ``input:output`` by name, which go before everything; ``none`` for a model without states.

    Raises:
        InputError: what is said names no input or output, or the two do not fit each other.
    """
    if NONE in said:
        if len(said) > 1:
            raise InputError("--state none says that the model has no states: give no other --state beside it")
        return (), ()
    sources, results = inputs_of(captured), outputs_of(captured)
    pairs = [_said(text, sources, results) for text in said]
    _once(pairs)
    left = _Open(captured, sources, results, pairs)
    for way in (_same_container, _named_alike, _one_recurrence, _only_fitting):
        pairs += left.take(way)
    pairs.sort(key=lambda pair: pair[0].leaf)
    states = tuple(_state(source, result) for source, result in pairs)
    return states, tuple(left.doubts())


def _state(source: End, result: End) -> State:
    grown = [dim for dim, (a, b) in enumerate(zip(source.shape, result.shape, strict=True)) if a != b]
    return State(source.leaf, result.leaf, source.name, result.name, grown[0] if grown else None)


# ------------------------------------------------------------------------------------------------- what the user says


def _said(text: str, sources: Sequence[End], results: Sequence[End]) -> Pair:
    first, _, second = text.partition(":")
    source, result = _by_name(text, first, sources, "input"), _by_name(text, second, results, "output")
    if not fits(source, result, grows=True):
        raise InputError(
            f"--state {text}: a state comes back in its own shape, and '{source.name}' is {sizes_text(source)} where "
            f"'{result.name}' is {sizes_text(result)}"
        )
    return source, result


def _by_name(text: str, name: str, ends: Sequence[End], kind: str) -> End:
    found = [end for end in ends if end.name in (name.strip(), f"{kind}_{name.strip()}")]
    if not found:
        known = ", ".join(end.name for end in ends)
        raise InputError(
            f"--state {text}: there is no {kind} '{name.strip()}', the model has {known}: write INPUT:OUTPUT, or {NONE}"
        )
    return found[0]


def _once(pairs: Sequence[Pair]) -> None:
    for ends in zip(*pairs, strict=True):
        names = [end.name for end in ends]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"--state names '{twice}' in two pairs: a state comes in once and goes out once")


# ------------------------------------------------------------------------------------------------------ what is found


class _Open:
    """Inputs and outputs that are in no pair yet."""

    def __init__(
        self, captured: Captured, sources: Sequence[End], results: Sequence[End], pairs: Sequence[Pair]
    ) -> None:
        signal = next((end for end in sources if not end.words & STATEFUL), sources[0] if sources else None)
        taken = {end.leaf for end, _ in pairs}
        self.signal = signal
        self.sources = [
            end
            for end in sources
            if end is not signal and end.leaf not in taken and _may_be_state(captured, end, signal)
        ]
        self.results = [end for end in results if end.leaf not in {result.leaf for _, result in pairs}]
        self.count = len(results)

    def take(self, way: Callable[[_Open], Iterator[Pair]]) -> list[Pair]:
        """The pairs that one way finds; a model that returns states alone has no output, and so none of them are."""
        found = list(way(self))
        if len(found) >= len(self.results):
            return []
        self.sources = [end for end in self.sources if end not in {source for source, _ in found}]
        self.results = [end for end in self.results if end not in {result for _, result in found}]
        return found

    def fitting(self, source: End, grows: bool = False) -> list[End]:
        return [result for result in self.results if fits(source, result, grows)]

    def doubts(self) -> list[str]:
        """What may be a state and was not paired."""
        found = [(source, self.fitting(source)) for source in self.sources if source.words & STATEFUL]
        return [
            f"input '{source.name}' may be a state, and comes back as {' or '.join(end.name for end in fitting)}: say "
            f"which with --state {source.name}:{fitting[0].name}, or --state {NONE}; until then it keeps its width"
            for source, fitting in found
            if fitting
        ]


def _may_be_state(captured: Captured, end: End, signal: End | None) -> bool:
    """A real tensor whose size does not follow the length of the audio; whole numbers are lengths more often than states."""
    leaf = pytree.tree_leaves(captured.example_inputs)[end.leaf]
    if not leaf.is_floating_point() or not end.shape:
        return False
    if end.words & STATEFUL or signal is None:
        return True
    return end.shape != signal.shape and not lengths_of(signal) & lengths_of(end)


def _same_container(ends: _Open) -> Iterator[Pair]:
    """Arguments that are tuples, lists or dictionaries, and come back in one output of the same structure."""
    sources, results = _by_container(ends.sources), _by_container(ends.results)
    for inside in sources.values():
        fitting = [others for others in results.values() if _like(inside, others)]
        rivals = [others for others in sources.values() if _like(others, inside)]
        if len(fitting) == len(rivals) == 1:
            yield from zip(inside, fitting[0], strict=True)


def _by_container(ends: Sequence[End]) -> dict[Any, list[End]]:
    found: dict[Any, list[End]] = {}
    for end in ends:
        if len(end.path) > 1:
            found.setdefault(end.path[0], []).append(end)
    return found


def _like(inside: Sequence[End], others: Sequence[End]) -> bool:
    return len(inside) == len(others) and all(
        a.path[1:] == b.path[1:] and fits(a, b, grows=True) for a, b in zip(inside, others, strict=True)
    )


def _named_alike(ends: _Open) -> Iterator[Pair]:
    for source in ends.sources:
        alike = [end for end in ends.fitting(source, grows=True) if end.words == source.words]
        rivals = [end for end in ends.sources if end.words == source.words]
        if len(alike) == len(rivals) == 1:
            yield source, alike[0]


def _one_recurrence(ends: _Open) -> Iterator[Pair]:
    """What goes into a recurrent layer as its state, and comes out of the same layer at the same place."""
    entered: dict[Any, list[End]] = {}
    for source in ends.sources:
        for place in _entries(source.node):
            entered.setdefault(place, []).append(source)
    for result in ends.results:
        sources = entered.get(_origin(result.node), [])
        if len(sources) == 1 and fits(sources[0], result):
            yield sources[0], result


def _entries(node: fx.Node) -> Iterator[tuple[fx.Node, int]]:
    """Recurrent layers that take a node, or a view of it, as a state, and as which of theirs."""
    for user in node.users:
        if is_recurrent(user.target):
            states = user.args[1] if isinstance(user.args[1], list | tuple) else [user.args[1]]
            yield from ((user, i) for i, state in enumerate(states) if state is node)
        elif _is_view(user):
            yield from _entries(user)


def _origin(node: fx.Node) -> tuple[fx.Node, int] | None:
    """The recurrent layer whose state a node is, and which of its states."""
    while _is_view(node):
        [node] = node.all_input_nodes[:1]
    if node.target is getitem and is_recurrent(node.args[0].target):  # type: ignore[union-attr]
        return node.args[0], int(node.args[1]) - 1  # type: ignore[return-value, arg-type]
    return None


def _is_view(node: fx.Node) -> bool:
    name = str(getattr(node.target, "__name__", node.target)).split(".")[0]
    return node.op == "call_function" and name in VIEWS


def _only_fitting(ends: _Open) -> Iterator[Pair]:
    """One input and one output that fit nothing else, where the output follows from the signal too."""
    for source in ends.sources:
        fitting = ends.fitting(source)
        rivals = [end for end in ends.sources if end.shape == source.shape]
        if len(fitting) == len(rivals) == 1 and ends.signal is not None and _depends(fitting[0].node, ends.signal.node):
            yield source, fitting[0]


def _depends(node: fx.Node, source: fx.Node) -> bool:
    written = {owner_of(x.args[0]) for x in node.graph.nodes if x.op == "call_function" and mutates(x)}
    if node.op == "placeholder" or node in written:  # what the model writes into and returns
        return True
    seen, stack = set(), [node]
    while stack:
        current = stack.pop()
        if current is source:
            return True
        if current not in seen:
            seen.add(current)
            stack += current.all_input_nodes
    return False
