"""Numbers of other types and batches that do not fit: cast where that is harmless, refused in a sentence where it is not."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.errors import CaptureError, InputError, RecipeError
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.report import Fitted
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.sweep import sweep
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.insert import GatedModule
from shrinkspeech.surgery.slice import slice as slice_graph

X = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """``[B, T, 6]`` → ``[B, T, 2]``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.out = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.inside(x).relu())
        return y


class Counting(Net):
    """Counts the features that are active, as truth values and as whole numbers."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.inside(x)
        active = (y > 0).sum(-1, keepdim=True) + (y > 1).long().sum(-1, keepdim=True)
        out: Tensor = self.out(y.relu()) / (active + 1)
        return out


def _fit(
    captured: Captured, batch: Any, loss: Any = None, inputs: Any = lambda batch: batch, **settings: Any
) -> Fitted:
    recipe = Recipe(train_batches=lambda: iter([batch]), loss=loss, inputs=inputs, name="r")
    return fit(captured, recipe, "60%", steps=8, settings=Settings(calibration=1, **settings))


@pytest.fixture(scope="module")
def captured() -> Captured:
    return capture(Net().eval(), (X,))


@pytest.mark.parametrize(("model", "batch"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_numbers_of_another_width_are_cast(model: torch.dtype, batch: torch.dtype) -> None:
    fitted = _fit(capture(Net().eval().to(model), (X.to(model),)), (X.to(batch),))
    assert {parameter.dtype for parameter in fitted.captured.graph_module.parameters()} == {model}
    assert fitted.report.skipped == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_trained(dtype: torch.dtype) -> None:
    half = capture(Net().eval().to(dtype), (X.to(dtype),))
    told = (
        rf"inside\.weight is {str(dtype).removeprefix('torch.')} \(4 of 4 tensors .*\), .* capture the model in float32"
    )
    with pytest.raises(InputError, match=told):
        _fit(half, (X.to(dtype),))
    with pytest.raises(InputError, match=told):
        sweep(half, Recipe(train_batches=lambda: iter([(X,)]), loss=None, name="r"), ["60%"], steps=4)
    assert half.graph_module.get_parameter("inside.weight").requires_grad
    half.graph_module.inside.requires_grad_(False)
    with pytest.raises(InputError, match=r"out\.weight is .* \(2 of 2 tensors"):
        _fit(half, (X.to(dtype),))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((X[..., :5],), "the model fails on inputs of 4×5×5, its example is 4×5×6: mat1 and mat2 shapes"),
        ((X, X), "it holds 2 inputs, and the model takes 1 input"),
        ((), "it holds 0 inputs, and the model takes 1 input"),
        (({"x": X},), "it holds 1 input, in a dictionary of x, and the model takes 1 input"),
        ((None,), "input 0 is of type NoneType, and the model takes a tensor"),
        ((X.numpy(),), "input 0 is of type ndarray, and the model takes a tensor"),
        (((X * 9).long(),), "input 0 is int64 of shape 4×5×6, and the model takes float32 of shape 4×5×6"),
        ((X > 0,), "input 0 is bool of shape 4×5×6, and the model takes float32 of shape 4×5×6"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(captured: Captured, given: Any, told: str) -> None:
    assert isinstance(X.numpy(), np.ndarray)
    with pytest.raises(RecipeError, match=re.escape(f"a batch of 'r' does not fit the model: {told}")):
        _fit(captured, given)


def test_sizes_that_were_not_proved_are_tried() -> None:
    """A length that runs is no reason to refuse."""
    captured = replace(capture(Net().eval(), (X,)), dynamic=(frozenset(),), axes=())
    assert _fit(captured, (X[:3, :4],)).report.steps == 8
    assert _fit(captured, X[:3, :4], inputs=lambda batch: batch).report.steps == 8


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (
            lambda y, _: y.square(),
            "loss() of 'r' returns a tensor of shape 4×5×2: it must be one number, such as its mean()",
        ),
        (lambda y, _: {"loss": y.mean()}, "loss() of 'r' returns a dict: it must be one number, as a tensor"),
        (lambda y, _: 1.0, "the loss of 'r' does not depend on the model's outputs"),
        (lambda y, _: y.detach().mean(), "the loss of 'r' does not depend on the model's outputs"),
        (lambda y, _: y.argmax(), "the loss of 'r' does not depend on the model's outputs"),
        (lambda y, _: torch.ones((), requires_grad=True) * 2, "the loss of 'r' does not depend on the model's outputs"),
        (lambda y, _: torch.complex(y.mean(), y.std()), "loss() of 'r' returns a complex number"),
    ],
)
@pytest.mark.parametrize("distil", [0, 1])
def test_a_loss_that_is_none_is_refused(captured: Captured, loss: Any, told: str, distil: float) -> None:
    """Also where the distance to the original's outputs would go on without it."""
    with pytest.raises(RecipeError, match=re.escape(told)):
        _fit(captured, (X,), loss, distil=distil)


def test_a_batch_without_labels_does_not_end_the_fit(captured: Captured) -> None:
    """Only the first loss must follow the outputs."""
    calls = itertools.count()

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        return outputs.square().mean() if next(calls) == 0 else torch.zeros(())

    assert _fit(captured, (X,), loss, distil=0).report.steps == 8


def test_what_is_counted_over_a_group_is_there_or_not() -> None:
    model = Counting().eval()
    captured = capture(model, (X,))
    groups = label(captured)
    (group,) = groups.shrinkable
    gated = GatedModule(captured, groups).eval()
    gated.widths.set({group.name: 9})
    sliced = slice_graph(captured, groups, {group.name: 9})
    assert max_difference(gated(X), sliced.graph_module(X)) <= 1e-6
    gated.train()
    gated.widths.set({group.name: 8.5})
    gated(X).square().sum().backward()
    assert gated.widths.fractions.grad is not None
    assert bool(gated.widths.fractions.grad.isfinite().all())
    fitted = _fit(captured, (X,))
    assert fitted.widths[group.name] < 16
    assert not torch.equal(fitted.captured.parameters()["out.bias"], model.out.bias)


class Named(nn.Module):
    def __init__(self, name: str, part: Any) -> None:
        super().__init__()
        self.inside = nn.Linear(6, 16)
        if isinstance(part, nn.Module):
            self.add_module(name, part)
        else:
            self.register_buffer(name, part)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        part = getattr(self, self.name)
        y = self.inside(x)
        return part(y) if isinstance(part, nn.Module) else y * part


@pytest.mark.parametrize(
    ("name", "part"), [("code", torch.ones(16)), ("meta", torch.ones(16)), ("graph", nn.Linear(16, 2))]
)
def test_names_that_torch_keeps_are_refused(name: str, part: Any) -> None:
    with pytest.raises(CaptureError, match=rf"'{name}' of Named is a name .* put the model into another"):
        capture(Named(name, part).eval(), (X,))
    inner = capture(nn.Sequential(Named(name, part)).eval(), (X,))
    assert any(key.startswith(f"0.{name}") for key in inner.parameters())
