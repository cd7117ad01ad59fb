"""Parameters that their owner froze stay as they are through a fit, to the bit, but for channels that go."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm
from torch.nn.utils.parametrizations import weight_norm as parametrised_weight_norm

from shrinkspeech.errors import InputError
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.report import Fitted
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.frozen import frozen
from shrinkspeech.groups.label import label
from shrinkspeech.loading.load import load
from tests.command import run

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")


class Front(nn.Module):
    """``[B, samples]`` → ``[B, T, 8]``: a filter bank as a convolution, and bands."""

    def __init__(self, requires_grad: bool) -> None:
        super().__init__()
        turns = (torch.arange(9)[:, None] + 0.3) * torch.arange(16) * 2 * math.pi / 16
        self.filters = nn.Parameter(torch.cos(turns)[:, None], requires_grad)
        self.bands = nn.Parameter(torch.rand(9, 8, generator=torch.Generator().manual_seed(0)), requires_grad)
        self.register_buffer("table", torch.rand(8, 8, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        power = torch.conv1d(x[:, None], self.filters, stride=8).square()
        return torch.tanh(0.1 * power.transpose(1, 2) @ self.bands) @ self.table


class Net(nn.Module):
    """``[B, samples]`` → ``[B, T, 2]``; the front is frozen by its flags, or by standing under ``no_grad``."""

    def __init__(self, by_flag: bool, front: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.by_flag = front or Front(requires_grad=not by_flag), by_flag
        self.inside, self.out = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.by_flag:
            features = self.front(x)
        else:
            with torch.no_grad():
                features = self.front(x)
        return self.out(torch.relu(self.inside(features)))


X = torch.randn(4, 160, generator=torch.Generator().manual_seed(0))


def _fitted(captured: Captured, **settings: Any) -> Fitted:
    recipe = Recipe(
        train_batches=lambda: iter([(X,), (2 * X,)]),
        loss=lambda outputs, batch: (outputs - 1).square().mean(),
        inputs=lambda batch: batch,
        name="r",
    )
    return fit(captured, recipe, "45%", steps=12, learning_rate=0.05, settings=Settings(calibration=2, **settings))


def _rows(small: Tensor, whole: Tensor) -> list[int]:
    """Which rows of ``whole`` those of ``small`` are, to the bit."""
    found = [[i for i, old in enumerate(whole) if torch.equal(row, old)] for row in small]
    assert all(found), "a row is none of the original's"
    return [places[0] for places in found]


@pytest.mark.parametrize("by_flag", [True, False], ids=["requires_grad=False", "no_grad"])
def test_frozen_parameters_stay(by_flag: bool, tmp_path: Path) -> None:
    model = Net(by_flag).eval()
    captured = capture(model, (X,))
    assert frozen(captured) == {"front.filters": 9 * 16, "front.bands": 9 * 8}
    before = {name: value.detach().clone() for name, value in captured.parameters().items()}
    fitted = _fitted(captured)
    after = fitted.captured.parameters()
    assert len(after["front.filters"]) < 9  # channels do go
    kept = _rows(after["front.filters"], before["front.filters"])
    columns = _rows(after["front.bands"].T, before["front.bands"][kept].T)
    _rows(after["front.table"].T, before["front.table"][columns].T)
    assert not torch.equal(after["out.bias"], before["out.bias"])
    fitted.save(tmp_path / "run")
    again = load(tmp_path / "run" / "model.pt2")
    assert set(frozen(again)) == {"front.filters", "front.bands"}
    assert torch.equal(again.parameters()["front.filters"], after["front.filters"])
    export_onnx(again, tmp_path / "m.onnx")
    exported = {x.name: onnx.numpy_helper.to_array(x) for x in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert (exported["front.filters"] == after["front.filters"].numpy()).all()


def test_frozen_parameters_are_trained_where_that_is_asked_for() -> None:
    captured = capture(Net(by_flag=True).eval(), (X,))
    before = captured.parameters()["front.filters"].detach().clone()
    fitted = _fitted(captured, train_frozen=True)
    with pytest.raises(AssertionError, match="none of the original's"):
        _rows(fitted.captured.parameters()["front.filters"], before)
    assert torch.equal(captured.parameters()["front.filters"], before)
    assert frozen(captured)


def test_frozen_recurrences_under_no_grad() -> None:
    front = nn.Sequential(nn.Unflatten(1, (20, 8)), nn.GRU(8, 8, 2, bidirectional=True, batch_first=True))

    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = front

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)[0][..., :8]

    captured = capture(Net(by_flag=False, front=Left()).eval(), (X,))
    open_ones = [name for name, p in captured.graph_module.named_parameters() if p.requires_grad]
    assert sorted(open_ones) == ["inside.bias", "inside.weight", "out.bias", "out.weight"]


@pytest.mark.parametrize("norm", [weight_norm, parametrised_weight_norm])
@pytest.mark.parametrize("learns", [True, False])
def test_weight_norm_keeps_its_flag(norm: Any, learns: bool) -> None:
    layer = norm(nn.Linear(8, 4))
    for parameter in layer.parameters():
        parameter.requires_grad_(learns)
    captured = capture(nn.Sequential(layer, nn.Linear(4, 2)), (torch.randn(3, 8),))
    assert captured.parameters()["0.weight"].requires_grad is learns


def test_nothing_to_train_is_refused() -> None:
    captured = capture(Net(by_flag=True).eval().requires_grad_(False), (X,))
    with pytest.raises(InputError, match=r"every parameter of the model is frozen .* --train-frozen"):
        _fitted(captured)
    assert _fitted(captured, train_frozen=True).report.steps == 12


def test_inspect_says_what_is_frozen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captured = capture(Net(by_flag=True).eval(), (X,))
    captured.save(tmp_path / "m.pt2")
    _, out, _ = run(["inspect", tmp_path / "m.pt2", "--seconds", "1"], capsys)
    assert "216 of the parameters, in 2 tensors (front.filters, front.bands), are frozen by their owner" in out
    _, out, _ = run(["inspect", tmp_path / "m.pt2", "--seconds", "1", "--json"], capsys)
    assert json.loads(out)["frozen_parameters"] == {"front.filters": 144, "front.bands": 72}


RECIPE = """
import torch
def train_batches():
    yield torch.randn(4, 160)
def loss(outputs, batch):
    return outputs.square().mean()
"""


def test_the_command_says_what_it_leaves_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    capture(Net(by_flag=True).eval(), (X,)).save("m.pt2")
    Path("recipe.py").write_text(RECIPE)
    command = ["fit", "m.pt2", "--recipe", "recipe.py", "--target-flops", "70%", "--steps", "3", "--seconds", "1"]
    before = load("m.pt2").parameters()["front.filters"]
    for options, stays, said in (
        ([], True, "they stay as they are"),
        (["--train-frozen"], False, "trained all the same"),
    ):
        code, out, err = run([*command, *options, "-o", f"run{len(options)}"], capsys)
        assert code == 0, err
        assert f"front.bands), are frozen by their owner: {'they are ' if not stays else ''}{said}" in " ".join(
            out.split()
        )
        after = load(f"run{len(options)}/model.pt2").parameters()["front.filters"]
        assert all(any(torch.equal(row, old) for old in before) for row in after) is stays


def test_groups_of_frozen_parameters_can_shrink() -> None:
    """Frozen values are no reason for a group to be frozen."""
    groups = label(capture(Net(by_flag=True).eval(), (X,)))
    assert {group.size for group in groups.shrinkable} >= {9, 8, 16}
