"""Digital silence in front of a root: nobody asks for the slope of a frozen part, and who trains the part is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.blame import blame
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.report import Fitted
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.frozen import learned
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.insert import GatedModule


class Front(nn.Module):
    """``[B, samples]`` → ``[B, 4, T]``: a Fourier transform as a frozen convolution, magnitudes, a filter bank, its roots."""

    def __init__(self, roots: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.roots = roots
        self.fourier = nn.Conv1d(1, 34, 32, stride=16, bias=False).requires_grad_(False)
        self.bank = nn.Parameter(torch.rand(17, 12), requires_grad=False)
        self.inside, self.out = nn.Conv1d(12, 24, 3, padding=1), nn.Conv1d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fourier(x[:, None])
        magnitudes = (z[:, :17].square() + z[:, 17:].square()).sqrt()
        bands = (magnitudes.transpose(1, 2) @ self.bank).transpose(1, 2)
        return self.out(torch.relu(self.inside(bands.sqrt() if self.roots else bands)))


def _batch(seed: int) -> Tensor:
    x = torch.randn(3, 480, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 0.1, 1e-3])[:, None]
    x[0, :200] = 0
    return x


def _recipe(**given: Any) -> Recipe:
    arguments = {"loss": None, "inputs": lambda batch: (batch,), "name": "r", **given}
    return Recipe(train_batches=lambda: iter([_batch(1), _batch(2), _batch(3)]), **arguments)


@pytest.fixture(scope="module")
def captured() -> Captured:
    return capture(Front().eval(), (_batch(0),))


@pytest.fixture(scope="module")
def fitted(captured: Captured) -> Fitted:
    return fit(captured, _recipe(), "35%", steps=40, settings=Settings(calibration=2))


def test_frozen_features_of_silence_are_finite(fitted: Fitted) -> None:
    assert fitted.report.skipped == 0
    assert {"fourier", "model", "inside"} == set(fitted.widths)
    whole = Front().fourier.weight
    kept = fitted.captured.parameters()["fourier.weight"]
    assert len(kept) < len(whole)
    assert all(any(torch.equal(row, old) for old in whole) for row in kept)


def test_a_keep_of_silence_has_no_slope(captured: Captured) -> None:
    """The root behind the bank is infinitely steep where a frame is silent, and no keep changes it there."""
    gated = GatedModule(captured, label(captured)).eval()
    for name in gated.widths.names:
        gated.widths.set({name: float(gated.widths.sizes[gated.widths.position[name]]) - 1.5})
    gated(_batch(0)).sum().backward()
    assert gated.widths.fractions.grad is not None
    assert bool(gated.widths.fractions.grad.isfinite().all())
    assert int((gated.widths.fractions.grad != 0).sum()) == 3


def test_gates_are_noisy_where_something_learns(captured: Captured) -> None:
    names = learned(captured.graph_module)
    contractions = [n.name for n in captured.graph_module.graph.nodes if "conv1d" in n.name or "matmul" in n.name]
    assert [name in names for name in contractions] == [False, False, True, True]
    gated = GatedModule(captured, label(captured)).train()
    for name in gated.widths.names:
        gated.widths.set({name: float(gated.widths.sizes[gated.widths.position[name]]) / 2})
    gated.widths.window = 4.0
    assert bool(gated(_batch(0)).isfinite().all())
    assert not torch.equal(gated(_batch(0)), gated(_batch(0)))


def test_trained_features_of_silence_are_refused_with_the_line() -> None:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "magnitudes = (" in text)
    told = rf"finite until it goes back through sqrt at model \(Front\), test_silence\.py:{line} .*; else lower --learning-rate"
    captured = capture(Front(roots=False).eval(), (_batch(0),))
    settings = Settings(calibration=2, train_frozen=True, warm_start=None)
    with pytest.raises(RecipeError, match=f"gradient is not finite at step 4 .*: it is {told}"):
        fit(captured, _recipe(), "90%", steps=40, settings=settings)


class Logarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.log(self.inside(x) * 0 - 1))


def test_the_first_value_that_is_not_finite_is_named() -> None:
    x = torch.randn(2, 6)
    captured = capture(Logarithm().eval(), (x,))
    said = blame(captured.copy(), lambda model: model(x).sum(), captured.where)
    assert said.startswith("the first value that is not finite is that of log at model (Logarithm), test_silence.py:")


def test_a_loss_that_makes_it_so_is_named() -> None:
    linear = capture(nn.Linear(6, 8), (torch.randn(2, 6),))
    x = torch.randn(2, 6)
    assert blame(linear.copy(), lambda model: (model(x) * 0).log().sum(), linear.where).startswith(
        "the model's outputs"
    )
    assert blame(linear.copy(), lambda model: model(x).sum(), linear.where) == ""
    module = capture(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)), (x,))
    recipe = Recipe(train_batches=lambda: iter([x]), loss=lambda y, _: (y * 0).abs().log().sum(), name="r")
    settings = Settings(distil=0, warm_start=None, score="magnitude")
    with pytest.raises(
        RecipeError, match=r"loss of 'r' is -?inf at step 4 .* outputs are finite, so that the loss itself"
    ):
        fit(module, recipe, "99%", steps=40, settings=settings)
