"""What has no form in ONNX is known before a fit, by operator, module and line; and is what the export itself refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from shrinkspeech_cli import status
from torch import Tensor, nn

from shrinkspeech.errors import ExportError
from shrinkspeech.export.forecast import missing
from shrinkspeech.export.onnx_graph import onnx_model
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from tests.command import FIT, UNKNOWN, refused, run, tiny_folder
from tests.export_cases import noise


class Of(nn.Module):
    def __init__(self, function: Callable[..., Any], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4) if layer is None else layer
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer, x)


def captured_of(function: Callable[..., Any], layer: nn.Module | None = None) -> Captured:
    torch.manual_seed(0)
    return capture(Of(function, layer).eval(), (noise(2, 9, 6),))


@torch.library.custom_op("shrinkspeech_test::own", mutates_args=())
def own(x: Tensor) -> Tensor:
    return x + 1


own.register_fake(torch.empty_like)

MISSING: dict[str, tuple[Any, nn.Module | None, str]] = {
    "an operator of the user's own": (
        lambda m, x: m(torch.ops.shrinkspeech_test.own(x)),
        None,
        "shrinkspeech_test.own.default at model (Of), test_forecast.py",
    ),
    "a part of an operator": (
        lambda m, x: m(x).matrix_exp() if x.shape[1] == 4 else torch.linalg.cond(m(x)[:, :4]),
        None,
        "aten.linalg_cond.default at model (Of), test_forecast.py",
    ),
    "complex numbers": (
        lambda m, x: torch.fft.rfft2(m(x)).abs(),
        None,
        "aten.fft_rfft2.default of complex numbers at model (Of), test_forecast.py",
    ),
    "a projection": (
        lambda m, x: m(x)[0],
        nn.LSTM(6, 8, proj_size=3, batch_first=True),
        "ONNX has no LSTM with projection (proj_size)",
    ),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_what_the_export_refuses(name: str) -> None:
    function, layer, text = MISSING[name]
    captured = captured_of(function, layer)
    [found, *_] = missing(captured)
    assert text in found.text
    with pytest.raises(ExportError):
        onnx_model(captured)


WINDOW = torch.hann_window(10)
THERE: dict[str, tuple[Any, nn.Module | None]] = {
    "taken apart by torch": (lambda m, x: torch.square(m(x)).std(1) * torch.hann_window(4), None),
    "moved to a device": (lambda m, x: m(x).to("cpu", torch.float64).float(), None),
    "with running statistics": (lambda m, x: m(x), nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(9))),
    "recurrent": (lambda m, x: m(x)[0], nn.LSTM(6, 8, batch_first=True)),
    "written to in place": (lambda m, x: m(x).relu_().index_put_((torch.tensor(0),), x[:, :, :4].mean(0)), None),
    "a spectrum": (lambda m, x: m(torch.stft(x[:, :, 0], 10, 4, return_complex=True, window=WINDOW).abs().mT), None),
    "a cell that is taken apart into parts that write": (lambda m, x: m(x[:, 0]), nn.GRUCell(6, 4)),
    "sizes that are computed": (lambda m, x: m(x).reshape(x.shape[0] * x.shape[1], 4) / x.shape[1] ** 0.5, None),
}


@pytest.mark.parametrize("name", THERE)
def test_what_torch_can_take_apart_is_not_missing(name: str) -> None:
    captured = captured_of(*THERE[name])
    assert missing(captured) == ()
    onnx_model(captured)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tiny_folder(tmp_path, monkeypatch)
    (made / "unknown.py").write_text(UNKNOWN)
    return made


def fit_of_unknown(folder: Path, *more: object) -> list[object]:
    """A model whose own operator works on its output alone: the layers before it can shrink."""
    inside = "self.out(mix(self.inside(x.unsqueeze(1))))"
    assert inside in UNKNOWN
    outside = UNKNOWN.replace(inside, "mix(self.out(self.inside(x.unsqueeze(1))))")
    gradient = "mix.register_autograd(lambda context, gradient: gradient.flip(1))\n"
    (folder / "unknown.py").write_text(outside + gradient)
    return ["fit", "unknown.py:Unknown", *FIT[FIT.index("--recipe") :], "--ignore-uncounted", *more]


def test_a_fit_is_refused_before_its_first_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(fit_of_unknown(folder), capsys)
    assert "shrinkspeech_test.mix.default at model (Unknown), unknown.py:13: has no translation to ONNX" in said
    assert "--no-export-check" in said
    assert not (folder / "run").exists()


def test_a_fit_goes_on_where_it_is_told_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(fit_of_unknown(folder, "--no-export-check"), capsys)
    assert code == 0, err
    assert (folder / "run" / "model.pt2").exists()


def test_inspect_says_what_is_missing_and_what_is_frozen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["inspect", "unknown.py:Unknown", "--example", "2x800"], capsys)
    assert code == 0, err
    assert "No ONNX file can be written of it (fit needs --no-export-check):" in out
    assert "shrinkspeech_test.mix.default at model (Unknown), unknown.py:13: has no translation to ONNX" in out
    assert "model (Unknown), unknown.py:13: freezes 2 groups, 16 channels, in 100.0% of the FLOP/s" in out
    code, out, err = run(["inspect", "unknown.py:Unknown", "--example", "2x800", "--json"], capsys)
    [entry] = json.loads(out)["without_rule"]
    assert (entry["groups"], entry["channels"], entry["share"]) == (2, 16, 1.0)
    assert [each["operator"] for each in json.loads(out)["not_in_onnx"]] == ["shrinkspeech_test.mix.default"]


def test_what_takes_long_is_said_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "PATIENCE", 0.0)
    arguments = ["inspect", "tiny:Net", "--example", "2x800"]
    _, out, err = run(arguments, capsys)
    assert "tracing tiny:Net, and running it at other sizes …" in err.splitlines()
    assert "tracing" not in out
    code, out, err = run([*arguments, "--json"], capsys)
    assert (code, err) == (0, "")
    assert json.loads(out)["model"] == "tiny:Net"
    monkeypatch.setattr(status, "PATIENCE", 60.0)
    assert run(arguments, capsys)[2] == ""
