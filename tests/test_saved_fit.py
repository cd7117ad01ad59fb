"""A fit that has trained is not lost to its own save: weights come first, in whatever order they lie in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from shrinkspeech_cli.summary import summary, sweep_summary
from torch import Tensor, nn

from shrinkspeech.errors import InputError
from shrinkspeech.fitting import report
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.report import Fitted
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.loading.load import load


class Transposed(nn.Module):
    """``[B, T, 20]`` → ``[B, T, 40]``: weights that lie transposed in memory, and one that repeats a row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Parameter(torch.rand(20, 40).T, requires_grad=False)
        self.inside, self.out = nn.Linear(20, 32), nn.Linear(32, 40)
        self.out.weight = nn.Parameter(self.out.weight.detach().T.contiguous().T)
        self.register_buffer("table", torch.rand(40, 40).T)
        self.scale = nn.Parameter(torch.rand(1, 40).expand(3, 40), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (
            nn.functional.linear(x, self.up) + self.out(self.inside(x).relu()) * self.scale.sum(0) + self.table.sum(0)
        )


X = torch.randn(3, 5, 20, generator=torch.Generator().manual_seed(0))


def _recipe(**given: Any) -> Recipe:
    return Recipe(train_batches=lambda: iter([X, 2 * X]), loss=None, inputs=lambda batch: (batch,), name="r", **given)


@pytest.fixture(scope="module")
def captured() -> Captured:
    return capture(Transposed().eval(), (X,))


@pytest.fixture(scope="module")
def fitted(captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    checkpoint = tmp_path_factory.mktemp("c") / "fit.ckpt"
    result = fit(captured, _recipe(), "70%", steps=8, checkpoint=checkpoint, checkpoint_every=1)
    again = fit(captured, _recipe(), "70%", steps=8, checkpoint=checkpoint, checkpoint_every=1, resume=True)
    assert torch.equal(result.captured.graph_module(X), again.captured.graph_module(X))
    return result


def test_parameters_that_are_not_contiguous_are_saved(fitted: Fitted, tmp_path: Path) -> None:
    model, small = Transposed(), fitted.captured.parameters()
    assert not model.up.is_contiguous()
    assert not fitted.captured.graph_module.up.requires_grad
    fitted.save(tmp_path)
    written, again = load_file(tmp_path / "model.safetensors"), load(tmp_path / "model.pt2")
    for name in ("up", "out.weight", "scale", "table"):
        assert torch.equal(written[name], small[name])
        assert torch.equal(again.parameters()[name], small[name])
    assert torch.equal(written["up"], model.up)
    assert torch.equal(written["scale"], model.scale)
    assert not torch.equal(written["out.weight"][:, 0], model.out.weight[:, 0])
    assert torch.allclose(again.graph_module(X), fitted.captured.graph_module(X), atol=1e-6)


def _fail(*_: Any, **__: Any) -> None:
    raise OSError("no space left on device")


def test_weights_are_there_where_a_report_cannot_be_written(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_write_json", _fail)
    with pytest.raises(OSError, match="no space"):
        fitted.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.pt2"}
    assert torch.allclose(load(tmp_path / "model.pt2").graph_module(X), fitted.captured.graph_module(X), atol=1e-6)


def test_weights_are_there_where_the_program_cannot_be_written(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.export, "save", _fail)
    with pytest.raises(OSError, match="no space"):
        fitted.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors"}
    assert torch.equal(load_file(tmp_path / "model.safetensors")["up"], fitted.captured.parameters()["up"])


def test_nothing_is_written_of_what_is_out_of_date(captured: Captured, tmp_path: Path) -> None:
    result = fit(captured, _recipe(), "70%", steps=0)
    module = result.captured.module()
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    with pytest.raises(InputError, match="has been trained since"):
        result.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_that_fails_loses_nothing(
    captured: Captured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[nn.Module] = []

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        calls.append(model)
        if len(calls) > 1:
            raise ValueError("no positives in the labels")
        return {"error": 0.5}

    result = fit(captured, _recipe(evaluate=evaluate), "70%", steps=4)
    assert result.report.unevaluated == "ValueError: no positives in the labels"
    assert (result.report.metrics_before, result.report.metrics_after) == ({"error": 0.5}, {})
    result.save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["unevaluated"] == result.report.unevaluated
    summary(result, {name: 99 for name in result.widths}, tmp_path)
    assert (
        "evaluate() failed on the small model, which is written all the same: ValueError: no" in capsys.readouterr().out
    )
    sweep_summary({"70%": result}, tmp_path)
    assert "70%: evaluate() failed on the small model" in capsys.readouterr().out


def test_an_evaluation_that_fails_on_the_original_is_told_at_once(captured: Captured) -> None:
    def evaluate(model: nn.Module) -> Mapping[str, float]:
        raise ValueError("no positives in the labels")

    with pytest.raises(ValueError, match="no positives"):
        fit(captured, _recipe(evaluate=evaluate), "70%", steps=4)


def test_what_safetensors_gets_lies_in_order(fitted: Fitted) -> None:
    """Whatever a fit has made of it."""
    weight = fitted.captured.graph_module.get_parameter("inside.weight")
    values, weight.data = weight.detach().clone(), weight.detach().T.contiguous().T
    assert not weight.is_contiguous()
    assert report._packed(weight).is_contiguous()
    assert torch.equal(report._packed(weight), values)
