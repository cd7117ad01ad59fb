"""A small model put back into its owner's own module: equal to the run's graph, or refused with the module's name."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import shrinkspeech
from shrinkspeech import capture, label, load_into
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference, seeded
from tests import own_modules
from tests.own_modules import Attention, Cells, Convolutions, Flat, OwnTransformer, Recurrent, Scaled, Tied, Written


def halved(captured: Captured, seed: int = 0, share: int = 2) -> Captured:
    """Sliced to half of every group, to units that are drawn."""
    groups, generator = label(captured), torch.Generator().manual_seed(seed)
    kept = {
        group.name: torch.randperm(group.size, generator=generator)[: max(1, group.size // share)].tolist()
        for group in groups.shrinkable
    }
    return shrinkspeech.slice(captured, groups, kept)


def made(kind: type[nn.Module]) -> Any:
    torch.manual_seed(0)
    return kind().eval()


@cache
def captured_of(kind: type[nn.Module]) -> Captured:
    return capture(made(kind), (torch.randn(CASES[kind]),))


CASES: dict[type[nn.Module], tuple[int, ...]] = {
    Convolutions: (2, 6, 20),
    Flat: (2, 1, 8, 20),
    Recurrent: (2, 15, 6),
    Cells: (2, 6),
    Attention: (2, 15, 6),
    OwnTransformer: (2, 15, 6),
    Written: (2, 9, 6),
    Scaled: (2, 9, 6),
}


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind not in (Written, Scaled)])
def test_every_layer_of_torch(kind: type[nn.Module]) -> None:
    """The small module computes what the graph does, at other sizes too, and is captured as a model that costs as little."""
    model, x = made(kind), torch.randn(CASES[kind])
    small = halved(captured_of(kind))
    names = list(model.state_dict())
    found = load_into(model, small)
    assert found.difference <= 1e-5
    assert list(model.state_dict()) == names
    longer = torch.randn(3, *x.shape[1:-1], x.shape[-1])
    assert max_difference(seeded(model, (longer,)), seeded(small.graph_module, (longer,))) <= 1e-5
    assert bool(found.notes) == (kind is Attention)
    if not found.notes:
        assert sum(p.numel() for p in model.parameters()) == small.parameter_count
    assert all(p.requires_grad for p in model.parameters())


def test_attributes_say_the_sizes() -> None:
    model = made(Convolutions)
    captured = captured_of(Convolutions)
    inner = next(group.name for group in label(captured) if group.size == 4)  # channels of a group of d and e
    load_into(model, shrinkspeech.slice(captured, label(captured), {inner: 2, "e": [0, 2, 5], "g": 4}))
    assert (model.a.in_channels, model.a.out_channels, model.b.num_features) == (6, 8, 8)
    assert (model.c.groups, model.c.in_channels, model.d.num_channels) == (8, 8, 8)
    assert (model.e.in_channels, model.e.out_channels, model.f.num_parameters) == (
        8,
        model.e.weight.shape[0],
        model.e.out_channels,
    )
    assert (model.g.in_channels, model.g.out_channels) == (
        model.g.weight.shape[0],
        model.g.weight.shape[1] * model.g.groups,
    )
    assert model.h.normalized_shape == (model.g.out_channels,)
    assert repr(model.a) == "Conv1d(6, 8, kernel_size=(3,), stride=(1,), padding=(1,))"


def test_narrow_heads_are_filled_up() -> None:
    model = made(Attention)
    notes = load_into(model, halved(captured_of(Attention))).notes
    assert notes[0].startswith("b.self_attn: 2 heads of 4, filled up with zeros from 2 of 2 (queries, keys)")
    assert (model.b.self_attn.embed_dim, model.b.self_attn.num_heads, model.b.self_attn.head_dim) == (8, 2, 4)
    assert (model.c.kdim, model.c.vdim, model.d.embedding_dim) == (6, 6, 8)


def test_a_scale_that_follows_the_width() -> None:
    """torch divides by the root of the width that heads have now, the graph by that of the width they had."""
    model, captured = made(Attention), captured_of(Attention)
    small = shrinkspeech.slice(captured, label(captured), {"a": 12, "b.self_attn#1": 3, "c#1": 6, "c#2": 6})
    assert load_into(model, small).difference <= 1e-5
    assert (model.b.self_attn.num_heads, model.b.self_attn.head_dim, model.c.head_dim) == (4, 3, 6)


def test_values_that_are_narrower_than_keys() -> None:
    model, captured = made(OwnTransformer), captured_of(OwnTransformer)
    groups = label(captured)
    small = shrinkspeech.slice(captured, groups, {"b.q#0": [0, 2, 3], "b.q#1": [1, 2, 3], "b.v": [2]})
    found = load_into(model, small)
    assert found.difference <= 1e-5
    assert "filled up with zeros" in found.notes[0]
    assert (
        model.b.num_heads * model.b.head_dim
        == model.b.q.out_features
        == model.b.v.out_features
        == model.b.o.in_features
    )


def test_ties_and_norms_and_keywords(tmp_path: Path) -> None:
    captured = shrinkspeech.load(f"{own_modules.__file__}:Tied", example=["2x15x6", "gain=2x15x1"])
    small = halved(captured)
    small.save(tmp_path / "model.pt2")
    model = made(Tied)
    assert load_into(model, tmp_path).difference <= 1e-5
    assert model.b.weight is model.c.weight
    assert model.b.weight.shape == (6, 6)
    x, gain = torch.randn(3, 9, 6), torch.randn(3, 9, 1)
    with torch.no_grad():
        assert max_difference(model(x, gain=gain), small.graph_module(x, gain)) <= 1e-5


def test_a_wrapped_model_in_training() -> None:
    """It stays in its mode and in its wrapper."""
    model = made(Recurrent).train()
    wrapped = nn.DataParallel(model)
    load_into(wrapped, halved(captured_of(Recurrent)))
    assert model.training
    assert model.a.hidden_size == 6
    assert sum(x.numel() for x in model.a._flat_weights) == sum(p.numel() for p in model.a.parameters())
    model(torch.randn(2, 15, 6)).sum().backward()


def uneven(captured: Captured) -> Captured:
    groups = label(captured)
    return shrinkspeech.slice(captured, groups, {group.name: 3 + i for i, group in enumerate(groups.shrinkable)})


@pytest.mark.parametrize(
    ("kind", "small", "expected"),
    [
        (
            Recurrent,
            uneven,
            r"b \(LSTM\): its layers or directions have different widths \(l0 4, l0_reverse 5\)",
        ),
        (Written, halved, r"inside.0 \(Unflatten\): it does not run with them"),
        (Scaled, halved, r"it computes something else then, off by .*torch.export.load\('model.pt2'\)"),
    ],
)
def test_what_a_module_cannot_express_is_refused(kind: Any, small: Any, expected: str) -> None:
    model = made(kind)
    before, attributes = copy.deepcopy(model.state_dict()), repr(model)
    with pytest.raises(InputError, match=expected):
        load_into(model, small(captured_of(kind)))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert repr(model) == attributes


def test_another_model_is_refused(tmp_path: Path) -> None:
    small = halved(captured_of(Cells))
    with pytest.raises(InputError, match=r"Recurrent has no a\.weight_ih \(10 of 10 tensors are missing\)"):
        load_into(made(Recurrent), small)
    with pytest.raises(InputError, match=r"is no run: there is no model\.pt2 in it"):
        load_into(made(Recurrent), tmp_path)


def test_what_the_graph_does_not_use_stays() -> None:
    model = made(Cells)
    model.more = nn.Linear(3, 3)
    notes = load_into(model, halved(captured_of(Cells))).notes
    assert notes == ("more.weight, more.bias stay as they are: the graph does not use them",)
    assert model.more.weight.shape == (3, 3)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of docs/huggingface.md, as it is written."""
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "huggingface.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "huggingface.md", "exec"), {})
    assert "(encoder): GRU(40, 24, batch_first=True)" in capsys.readouterr().out
