"""Looking at a model changes nothing in it: statistics, state, dropout that is always on, gradients of its own."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shrinkspeech.errors import CaptureError, InputError
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.compare import max_difference, seeded
from shrinkspeech.graph.state import written
from shrinkspeech.groups.label import label
from shrinkspeech.loading.load import load
from shrinkspeech.surgery.insert import gate
from shrinkspeech.surgery.slice import slice as slice_graph


def _saved(model: nn.Module, *inputs: Tensor) -> bytes:
    """A ``.pt2`` of a model in the mode that it is in."""
    dims = tuple({dim: torch.export.Dim.AUTO for dim in range(x.dim())} for x in inputs)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, inputs, dynamic_shapes=dims), buffer)
    return buffer.getvalue()


def _loaded(data: bytes, folder: Path) -> Any:
    (folder / "m.pt2").write_bytes(data)
    return load(folder / "m.pt2")


# ------------------------------------------------------------------------------------- programs saved in training mode


class Trained(nn.Module):
    """``[B, 8, T]`` → ``[B, T, 4]``: everything that has a training mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv1d(8, 12, 3, padding=1), nn.BatchNorm1d(12)
        self.instance = nn.InstanceNorm1d(12, affine=True, track_running_stats=True)
        self.drop, self.out = nn.Dropout(0.5), nn.LSTM(12, 4, 2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.instance(self.norm(self.conv(x)))).transpose(1, 2))[0]


X = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0)) + 1


@pytest.fixture(scope="module")
def trained() -> Trained:
    model = Trained().train()
    for _ in range(5):
        model(2 * X)
    return model


def test_statistics_of_a_program_in_training_mode(trained: Trained, tmp_path: Path) -> None:
    before = copy.deepcopy(trained.state_dict())
    captured = _loaded(_saved(trained, X), tmp_path)
    assert "exported in training mode" in captured.notes[0]
    sliced = slice_graph(captured, label(captured), {})
    sliced.save(tmp_path / "again.pt2")
    again = load(tmp_path / "again.pt2")
    assert not any("training mode" in note for note in again.notes)
    model = copy.deepcopy(trained).eval()
    for one in (captured, sliced, again):
        found = one.parameters()
        assert all(torch.equal(found[name], before[name]) for name in found)
        with torch.no_grad():
            assert max_difference(one.graph_module(X), model(X)) < 1e-6
        assert written(one.graph_module) == ()
        assert all(torch.equal(found[name], before[name]) for name in found)


def test_statistics_move_where_the_copy_is_trained(trained: Trained, tmp_path: Path) -> None:
    """The modes of what was captured are the user's: in training, statistics move and dropout drops."""
    captured = _loaded(_saved(trained, X), tmp_path)
    copied, model = captured.copy().train(), copy.deepcopy(trained).train()
    copied(X), model(X)
    for name in ("norm.running_mean", "instance.running_var"):
        assert torch.allclose(copied.state_dict()[name], model.state_dict()[name])
        assert not torch.equal(copied.state_dict()[name], trained.state_dict()[name])
    assert not torch.equal(copied(X), copied(X))


def test_attention_of_a_program_in_training_mode(tmp_path: Path) -> None:
    model, x = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5, batch_first=True).train(), torch.randn(2, 6, 8)
    captured = _loaded(_saved(model, x), tmp_path)
    assert max_difference(seeded(captured.graph_module, (x,)), seeded(model.eval(), (x,))) < 1e-6


def test_program_of_the_user_stays_as_it_is(trained: Trained) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(trained, (X,))
    before = copy.deepcopy(dict(program.state_dict))
    captured = capture(program)
    with torch.no_grad():
        captured.graph_module.train()(X)
        captured.parameters()["conv.weight"].zero_()
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict.items())


def test_decomposed_training_mode_is_refused(trained: Trained) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(trained, (X,)).run_decompositions()
    with pytest.raises(CaptureError, match=r"exported in training mode and decomposed.*export model\.eval\(\)"):
        capture(program)


# -------------------------------------------------------------------------------------------------- state in a buffer


class Streaming(nn.Module):
    """``[2, 8]`` → ``[2, 2]``; remembers its last features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.back, self.out = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.register_buffer("state", torch.randn(2, 12))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inside(x) + self.back(self.state))
        self.state.copy_(y)
        return self.out(y)


STEPS = tuple(torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(1)))


def _outputs(model: nn.Module) -> list[Tensor]:
    with torch.no_grad():
        return [model(x) for x in STEPS]


def test_captured_state_is_the_users(tmp_path: Path) -> None:
    model = Streaming().eval()
    before = model.state.clone()
    captured = capture(model, (STEPS[0],))
    assert torch.equal(model.state, before)
    assert torch.equal(captured.parameters()["state"], before)
    assert written(captured.graph_module) == ("state",)
    captured.save(tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    assert torch.equal(again.parameters()["state"], before)
    wanted = _outputs(copy.deepcopy(model))
    assert max_difference(_outputs(captured.copy()), wanted) == 0
    assert max_difference(_outputs(again.copy()), wanted) == 0


def test_laws_hold_from_step_to_step() -> None:
    captured = capture(Streaming().eval(), (STEPS[0],))
    groups = label(captured)
    gated = gate(captured, groups)
    assert max_difference(_outputs(gated), _outputs(captured.copy())) == 0
    gated = gate(captured, groups)
    ranks = gated.widths.ranks.with_scores({"inside": torch.rand(12)})
    gated.widths.set_ranks(ranks)
    gated.widths.set({"inside": 7})
    sliced = slice_graph(captured, groups, ranks.best({"inside": 7}))
    assert sliced.parameters()["state"].shape == (2, 7)
    assert max_difference(_outputs(gated), _outputs(sliced.graph_module)) < 1e-6


def test_state_is_refused_where_it_would_be_lost(tmp_path: Path) -> None:
    captured = capture(Streaming().eval(), (STEPS[0],))
    with pytest.raises(InputError, match=r"writes to state in forward .* which an ONNX file cannot keep"):
        export_onnx(captured, tmp_path / "m.onnx")
    recipe = Recipe(train_batches=lambda: iter([(STEPS[0],)]), loss=None, inputs=lambda batch: batch, name="r")
    with pytest.raises(InputError, match=r"writes to state in forward .* which a fit cannot keep"):
        fit(captured, recipe, "50%", steps=4)


# ------------------------------------------------------------------------------------------ dropout that is always on


class Sampling(nn.Module):
    """``[B, T]`` → ``[B, T]``; drops in evaluation too, as models do that estimate how sure they are."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(F.dropout(x, 0.5, training=True), 0.1, training=self.training)


def test_dropout_that_is_always_on_stays_on(tmp_path: Path) -> None:
    x, model = torch.ones(4, 50), Sampling().eval()
    captured = capture(model, (x,))
    assert captured.notes[-1].startswith("dropout in model is on in evaluation too")
    captured.save(tmp_path / "m.pt2")
    for one in (captured.graph_module, captured.copy(), load(tmp_path / "m.pt2").graph_module):
        assert torch.equal(seeded(one, (x,)), seeded(model, (x,)))
        assert set(seeded(one, (x,)).unique().tolist()) == {0.0, 2.0}
    dropped_twice = seeded(captured.copy().train(), (x,)).unique()
    torch.testing.assert_close(dropped_twice, torch.tensor([0.0, 2 / 0.9]))


# ---------------------------------------------------------------------------------------------- gradients of one's own


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -0.3 * gradient


class Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x * 4) / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Clipped(Rounding):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.round(x * 4) / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0].abs() < 0.5)


class Own(nn.Module):
    """``[B, 8]`` → ``[B, 2]``"""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.function = nn.Linear(8, 12), nn.Linear(12, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.function.apply(self.a(x))))


def _gradient(model: nn.Module, x: Tensor) -> Tensor:
    model(x).square().sum().backward()
    return dict(model.named_parameters())["a.weight"].grad


@pytest.mark.parametrize("function", [Reversal, Rounding])
def test_own_backward_is_kept(function: type[torch.autograd.Function], tmp_path: Path) -> None:
    model, x = Own(function).eval(), torch.randn(5, 8)
    captured = capture(model, (x,))
    assert not any("backward" in note for note in captured.notes)
    captured.save(tmp_path / "m.pt2")
    wanted = _gradient(model, x)
    assert wanted.norm() > 0
    for one in (captured.copy(), load(tmp_path / "m.pt2").copy()):
        torch.testing.assert_close(_gradient(one, x), wanted)
    export_onnx(captured, tmp_path / "m.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert not operators & {"Add", "Sub"}  # what keeps the gradient is no part of the file


def test_backward_that_cannot_be_kept_is_named() -> None:
    notes = capture(Own(Clipped).eval(), (torch.randn(5, 8),)).notes
    assert any(
        note.startswith("the backward of Clipped, an autograd.Function of the model's own, is not kept")
        for note in notes
    )
