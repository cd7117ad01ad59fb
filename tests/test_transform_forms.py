"""The form of Fourier transforms in a file: as it is wanted, or the faster by a measurement, and said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from shrinkspeech_cli.export import form_of
from torch import Tensor, nn

from shrinkspeech import export_onnx
from shrinkspeech.errors import InputError
from shrinkspeech.export import transform_times
from shrinkspeech.export.transform_times import planned
from shrinkspeech.export.transforms import Forms, Transform, kernel_of
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from tests.command import run
from tests.export_cases import Apply, noise

STFT = Transform("stft", 40, 10, (1, 440))
BACK = Transform("istft", 40, 10, (1, 21, 41))


def there_and_back(m: Any, x: Tensor) -> Tensor:
    z = torch.stft(x, 40, 10, window=m.window, return_complex=True)
    return torch.istft(z * m.gain, 40, 10, window=m.window)


@pytest.fixture(scope="module")
def captured() -> Captured:
    window, gain = nn.Buffer(torch.hann_window(40)), nn.Parameter(torch.ones(1))
    return capture(Apply(there_and_back, window=window, gain=gain).eval(), (noise(2, 400),))


@pytest.fixture(scope="module")
def program(captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt2"
    captured.save(path)
    return path


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node} & {"Conv", "ConvTranspose", "STFT", "DFT"}


def test_each_has_the_faster_form(captured: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seconds = {STFT: {"conv": 0.001, "op": 0.002}, BACK: {"conv": 0.004, "op": 0.003}}
    asked = []

    def measured(transforms: tuple[Transform, ...]) -> Mapping[Transform, Mapping[str, float]]:
        asked.append(transforms)
        return seconds

    monkeypatch.setattr(transform_times, "_times", measured)
    report = export_onnx(captured, tmp_path / "model.onnx")
    assert asked == [(STFT, BACK)]
    assert operators(report.path) == {"Conv", "DFT"}
    said = [
        "stft of 40 points as conv (conv 1.00 ms, op 2.00 ms)",
        "istft of 40 points as op (conv 4.00 ms, op 3.00 ms)",
    ]
    assert [str(found) for found in report.spectra] == said
    entries = {entry.key: entry.value for entry in onnx.load(str(report.path)).metadata_props}
    assert entries["stft"] == "; ".join(said)
    monkeypatch.setitem(seconds, STFT, {"conv": 0.00195, "op": 0.002})
    assert [found.form for found in export_onnx(captured, tmp_path / "model.onnx").spectra] == ["op", "op"]


def test_both_forms_are_measured_once(captured: Captured) -> None:
    forms = planned(captured, "auto")
    assert set(forms.seconds) == {STFT, BACK}
    assert all(min(times.values()) > 0 and set(times) == {"conv", "op"} for times in forms.seconds.values())
    assert planned(captured, "auto").seconds is forms.seconds


def test_a_model_without_transforms_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transform_times, "_times", None)
    captured = capture(nn.Linear(6, 3).eval(), (noise(2, 9, 6),))
    assert planned(captured, "auto").spectra == ()


@pytest.mark.parametrize(("form", "kinds"), [("conv", {"Conv", "ConvTranspose"}), ("op", {"STFT", "DFT"})])
def test_the_command_writes_what_is_wanted(
    form: str, kinds: set[str], program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    code, out, err = run(["export", str(program), "-o", str(path), "--seconds", "1", "--stft", form], capsys)
    assert code == 0, err
    assert operators(path) == kinds
    assert f"Fourier transforms: stft of 40 points as {form}; istft" in out


@pytest.mark.parametrize(
    ("quantity", "wanted", "form"), [("size", "auto", "op"), ("size", "conv", "conv"), ("flops", "auto", "auto")]
)
def test_a_run_with_a_budget_of_size_keeps_the_operators(quantity: str, wanted: str, form: str) -> None:
    """Their file is the smaller, as the fit had it."""
    assert form_of(wanted, {"report": {"budget": {"quantity": quantity}}}) == form
    assert form_of(wanted, {}) == wanted


def test_another_form_is_refused(
    captured: Captured, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="'fft' is no form of a Fourier transform: give auto, conv, op"):
        export_onnx(captured, tmp_path / "model.onnx", stft="fft")
    code, _, err = run(["export", str(program), "-o", str(tmp_path / "m.onnx"), "--stft", "fft"], capsys)
    assert code == 2
    assert "--stft must be auto, conv or op, not 'fft'" in " ".join(err.split())


def test_a_window_that_no_one_would_know_keeps_the_operator(tmp_path: Path) -> None:
    """Half of its samples are below zero: a count by values would take the product for a layer."""
    window = noise(40)
    assert kernel_of(torch.eye(40, dtype=torch.float64) * window) is None

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.stft(x, 40, 10, window=m.window, return_complex=True).abs()

    captured = capture(Apply(forward, window=nn.Buffer(window)).eval(), (noise(2, 400),))
    report = export_onnx(captured, tmp_path / "model.onnx", stft="conv")
    assert operators(report.path) == {"STFT"}
    assert [str(found) for found in report.spectra] == ["stft of 40 points as op"]


def test_a_form_is_asked_for_by_name() -> None:
    forms = Forms("auto", {STFT: {"conv": 1.0, "op": 2.0}}, chosen={"first": "op", "second": "conv"})
    assert [forms.is_dense(name, STFT) for name in ("first", "second", "third")] == [False, True, True]
    assert not forms.is_dense("third", STFT, possible=False)
