"""What looking at a model costs: how often it is run and traced, and that nothing else is changed for it."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import pytest
import torch
import torch._dynamo.config
from shrinkspeech_cli import memory
from torch import Tensor, nn
from torch.fx import GraphModule

from shrinkspeech.errors import NotRunningError
from shrinkspeech.graph import capture as capturing
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.graph.sizes import axes_of
from shrinkspeech.graph.swift import swift
from tests.export_cases import noise

aten = torch.ops.aten
RUNS: list[tuple[int, ...]] = []


class Counted(nn.Module):
    """Notes the shape of its input whenever it really runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            RUNS.append(tuple(x.shape))
        return self.layer(x)


class UpTo40(Counted):
    """Its graph has one of two branches, so that its length stays; parts and factors follow from that length."""

    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x if x.shape[1] <= 40 else 2 * x)
        first, second = h.chunk(2, 1)
        return torch.cat([first * x.shape[1], second.reshape(x.shape[0], -1, 4)], 1)


class OneItem(Counted):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != 1:
            raise ValueError("one item at a time")
        return super().forward(x)


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of ``torch.export.export``."""
    made, export = [], torch.export.export

    def counted(*args: Any, **options: Any) -> Any:
        made.append(options)
        assert not gc.isenabled(), "tracing makes hardly any garbage"
        return export(*args, **options)

    monkeypatch.setattr(torch.export, "export", counted)
    RUNS.clear()
    return made


def sizes_of(captured: Captured, dim: int) -> list[Any]:
    """The nodes that ask for the size of one dimension of the input."""
    return [
        node
        for node in captured.graph_module.graph.nodes
        if node.target is aten.sym_size.int and node.args[0].op == "placeholder" and node.args[1] == dim
    ]


def agree_at(captured: Captured, model: nn.Module, *shape: int) -> bool:
    x = noise(*shape)
    return max_difference(captured.graph_module(x), model(x)) < 1e-6


def test_a_batch_and_a_length_are_proved_by_two_runs(exports: list[Any]) -> None:
    captured = capture(Counted(), (noise(2, 40, 6),))
    assert RUNS == [(2, 40, 6), (1, 30, 6), (3, 50, 6)]
    assert len(exports) == 1
    assert {axis.places[0]: axis.sizes for axis in axes_of(captured)} == {(0, 0): (3, 1), (0, 1): (30, 50)}


def test_numbers_stand_where_a_length_stays(exports: list[Any]) -> None:
    model = UpTo40().eval()
    captured = capture(model, (noise(2, 36, 6),))
    assert [set(dims) for dims in captured.dynamic] == [{0}]
    assert len(exports) == 1
    assert RUNS == [(2, 36, 6), (1, 27, 6), (3, 45, 6), (1, 36, 6), (3, 36, 6), (1, 45, 6)], "no sizes twice"
    assert sizes_of(captured, 0)
    assert not sizes_of(captured, 1)
    [parts] = [node for node in captured.graph_module.graph.nodes if "split" in str(node.target)]
    assert parts.args[1] == [18, 18]
    assert captured.shapes[parts.name] == ((2, 18, 4), (2, 18, 4))
    assert agree_at(captured, model, 5, 36, 6)


def test_a_graph_that_numbers_do_harm_to_is_exported_anew(exports: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    write = capturing.fix_sizes

    def wrongly(captured: Captured) -> Captured:
        fixed = write(captured)
        if len(exports) == 1:
            factor = next(node for node in fixed.graph_module.graph.nodes if node.target is aten.mul.Tensor)
            factor.args = (factor.args[0], 35)
            fixed.graph_module.recompile()
        return fixed

    monkeypatch.setattr(capturing, "fix_sizes", wrongly)
    model = UpTo40().eval()
    captured = capture(model, (noise(2, 36, 6),))
    assert len(exports) == 2
    assert agree_at(captured, model, 5, 36, 6)


def test_a_size_that_follows_from_a_dynamic_one_too_stays_computed(exports: list[Any]) -> None:
    class Folded(UpTo40):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).reshape(x.shape[0] * x.shape[1], 4)

    model = Folded().eval()
    captured = capture(model, (noise(2, 36, 6),))
    assert [set(dims) for dims in captured.dynamic] == [{0}]
    assert agree_at(captured, model, 7, 36, 6)


def test_a_model_of_one_item_runs_once_more() -> None:
    captured = capture(OneItem(), (noise(1, 40, 6),))
    assert [set(dims) for dims in captured.dynamic] == [set()]
    assert captured.batch == 1


def test_what_does_not_run_is_not_traced(exports: list[Any]) -> None:
    with pytest.raises(NotRunningError, match="Counted does not run on its example inputs: mat1") as refused:
        capture(Counted(), (noise(2, 40, 7),))
    assert isinstance(refused.value.__cause__, RuntimeError)
    assert not exports


def _fails(simplify: Any) -> None:
    import sympy

    with swift():
        assert not gc.isenabled()
        assert not torch._dynamo.config.fake_tensor_cache_enabled
        assert sympy.simplify is not simplify
        raise ZeroDivisionError


@pytest.mark.parametrize("collecting", [True, False])
def test_tracing_swiftly_leaves_all_as_it_was(collecting: bool) -> None:
    import sympy  # type: ignore[import-untyped]

    simplify, before = sympy.simplify, torch._dynamo.config.fake_tensor_cache_enabled
    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError):
            _fails(simplify)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if was else gc.disable)()
    assert (sympy.simplify, torch._dynamo.config.fake_tensor_cache_enabled) == (simplify, before)


def test_memory_of_a_run_is_kept_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, parameter: int, value: int) -> int:
            asked.append((parameter, value))
            return 1

    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    memory.keep_memory()
    assert asked == [(-4, 0), (-1, 2**31 - 1)]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory.keep_memory()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    memory.keep_memory()


def test_a_fixed_program_is_still_one_that_can_be_saved(tmp_path: Any) -> None:
    import shrinkspeech

    capture(UpTo40().eval(), (noise(2, 36, 6),)).save(tmp_path / "model.pt2")
    again = shrinkspeech.load(tmp_path / "model.pt2")
    assert isinstance(again.graph_module, GraphModule)
    assert [set(dims) for dims in again.dynamic] == [{0}]
