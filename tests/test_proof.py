"""Dynamic axes: proved at two other sizes, tied ones together, and the same after a program was saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.export.check import check
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.parity import shapes_of, sizes_to_try
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.sizes import axes_of, resized
from tests.command import run
from tests.export_cases import noise


class Of(nn.Module):
    """A function of one layer and an input."""

    def __init__(self, function: Callable[..., Any], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function = function
        self.layer = nn.Linear(6, 4) if layer is None else layer

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer, x)


class OfTwo(Of):
    """The same of two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return self.function(self.layer, x, y)


def captured_of(function: Callable[..., Any], *inputs: Tensor, layer: nn.Module | None = None) -> Captured:
    torch.manual_seed(0)
    return capture((Of if len(inputs) == 1 else OfTwo)(function, layer).eval(), inputs)


def dynamic(captured: Captured) -> list[set[int]]:
    return [set(dims) for dims in captured.dynamic]


@pytest.mark.parametrize(("step", "length"), [(2, 50), (3, 30), (4, 100), (5, 30), (8, 40), (10, 70), (160, 480)])
def test_a_length_may_be_one_of_multiples(step: int, length: int) -> None:
    """Frames are stacked by a view, which fails at every other length; three quarters of these are no multiples."""
    stacked = captured_of(
        lambda m, x: m(x.reshape(x.shape[0], x.shape[1] // step, step)),
        noise(2, length),
        layer=nn.Linear(step, 3),
    )
    assert length * 3 // 4 % step != 0
    assert dynamic(stacked) == [{0, 1}]
    [axis] = [axis for axis in axes_of(stacked) if not axis.is_batch]
    assert len(axis.sizes) == 2
    assert all(size % step == 0 and size != length for size in axis.sizes)
    assert max(axis.sizes) < 2 * length, "near the example: a table of positions ends somewhere"


def cropped(m: nn.Module, x: Tensor) -> Any:
    h = x[:, : x.shape[1] // 3 * 3]
    return m(h.reshape(x.shape[0], x.shape[1] // 3, 18))


def nearest(m: nn.Module, x: Tensor) -> Any:
    return m(x), torch.cdist(x, torch.eye(6)[None].expand(x.shape[0], -1, -1)).argmin(-1)


@pytest.mark.parametrize(("function", "width"), [(cropped, 18), (nearest, 6)])
def test_what_is_dynamic_still_is_after_save_and_load(function: Any, width: int, tmp_path: Path) -> None:
    """The saved program guards its length: a multiple of 3 for one, at least 26 for the other."""
    captured = captured_of(function, noise(2, 30, 6), layer=nn.Linear(width, 4))
    captured.save(tmp_path / "model.pt2")
    loaded = shrinkspeech.load(tmp_path / "model.pt2")
    assert dynamic(captured) == dynamic(loaded) == [{0, 1}]
    assert export_onnx(loaded, tmp_path / "model.onnx").dynamic == {"x": {0: "batch", 1: "time"}}


def test_real_and_imaginary_parts_are_no_dynamic_axis() -> None:
    captured = captured_of(lambda m, x: m(torch.view_as_complex(x).abs()), noise(2, 9, 6, 2))
    assert dynamic(captured) == [{0, 1}]


def test_one_other_size_is_no_proof() -> None:
    """Both branches exist at 36 ± 9 frames, the graph has one."""
    captured = captured_of(lambda m, x: m(x) if x.shape[1] <= 40 else m(2 * x), noise(2, 36, 6))
    assert dynamic(captured) == [{0}]
    assert any("dimension 1 stays 36" in note and "(45)" in note for note in captured.notes)


@torch.library.custom_op("shrinkspeech_test::picky", mutates_args=())
def picky(x: Tensor) -> Tensor:
    if x.shape[1] not in (9, 12):
        raise ValueError("not of my sizes")
    return x + 1


picky.register_fake(torch.empty_like)


def test_a_size_that_runs_alone_is_no_proof() -> None:
    captured = captured_of(lambda m, x: m(torch.ops.shrinkspeech_test.picky(x)), noise(2, 12, 6))
    assert dynamic(captured) == [{0}]
    assert "input 0: dimension 1 stays 12: the model runs at one other size alone (9)" in captured.notes


@torch.library.custom_op("shrinkspeech_test::added", mutates_args=())
def added(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("x and y differ")
    return x + y


added.register_fake(lambda x, y: torch.empty_like(x))


def test_axes_that_only_change_together_are_tied() -> None:
    """The operator's shape rule does not look at the second input, so that nothing ties the two but the runs."""
    captured = captured_of(lambda m, x, y: m(torch.ops.shrinkspeech_test.added(x, y)), noise(2, 9, 6), noise(2, 9, 6))
    assert dynamic(captured) == [{0, 1}, {0, 1}]
    assert {axis.places for axis in axes_of(captured)} == {((0, 0), (1, 0)), ((0, 1), (1, 1))}
    assert [shapes_of(inputs) for inputs in sizes_to_try(captured)[0]] == [
        ((batch, time, 6), (batch, time, 6)) for batch in (2, 1) for time in (9, 7)
    ]


def framed(m: nn.Module, samples: Tensor, frames: Tensor) -> Tensor:
    return m(torch.ops.shrinkspeech_test.added(samples.unfold(1, 6, 6), frames))


def test_samples_and_their_frames_keep_their_ratio() -> None:
    captured = captured_of(framed, noise(2, 60), noise(2, 10, 6))
    assert dynamic(captured) == [{0, 1}, {0, 1}]
    [axis] = [axis for axis in axes_of(captured) if not axis.is_batch]
    assert axis.places == ((1, 1), (0, 1))
    samples, frames = resized(captured, {axis: 15})
    assert (samples.shape, frames.shape) == ((2, 90), (2, 15, 6))


def masked(m: nn.Module, x: Tensor, n: Tensor) -> Tensor:
    mask = torch.arange(int(n.max()))[None] < n[:, None]
    return (m(x[:, : mask.shape[1]]) * mask[..., None]).sum(1)


def test_lengths_follow_the_axis_that_they_count() -> None:
    captured = captured_of(masked, noise(2, 40, 6), torch.tensor([20, 40]))
    assert dynamic(captured) == [{0, 1}, {0}]
    time = next(axis for axis in axes_of(captured) if not axis.is_batch)
    x, n = resized(captured, {time: 30})
    assert (x.shape[1], n.tolist()) == (30, [30, 15])
    batch = next(axis for axis in axes_of(captured) if axis.is_batch)
    assert resized(captured, {batch: 1})[1].tolist() == [40]
    assert resized(captured, {batch: 3})[1].tolist() == [40, 20, 40]


def test_values_are_of_the_examples_kind() -> None:
    captured = captured_of(lambda m, x, y: m(x) * y[:, None, None], noise(2, 9, 6).square(), torch.ones(2))
    power, relative = resized(captured, {axis: 5 for axis in axes_of(captured)})
    assert float(power.min()) >= 0
    assert relative.tolist() == [1.0] * 5
    [silence, _] = resized(replace(captured, example_inputs=(torch.zeros(2, 9, 6), torch.ones(2))), {})
    assert float(silence.std()) == pytest.approx(0.1, rel=0.2), "zeros prove nothing"


def test_a_batch_of_one_that_the_model_treats_otherwise_is_said() -> None:
    captured = captured_of(lambda m, x: m(x).squeeze().sum(-1), noise(2, 9, 6))
    assert any(note.startswith("with a batch of 1 the captured graph differs") for note in captured.notes)


def joined(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Needs 18 frames of both together."""
    return m(torch.cat([x, y], 1).unfold(1, 18, 1).mean(-1))


def test_lengths_that_do_not_go_together_are_compared_one_at_a_time(tmp_path: Path) -> None:
    captured = captured_of(joined, noise(2, 10, 6), noise(2, 12, 6))
    assert dynamic(captured) == [{0, 1}, {0, 1}]
    inputs, notes = sizes_to_try(captured)
    assert [tuple(shape[:2] for shape in shapes_of(each)) for each in inputs] == [
        ((2, 10), (2, 12)),
        ((2, 8), (2, 12)),
        ((2, 10), (2, 9)),
        ((1, 10), (1, 12)),
    ]
    assert notes[0].startswith("not compared at 2×8×6, 2×9×6: the captured graph fails there")
    report = export_onnx(captured, tmp_path / "model.onnx")
    assert set(notes) <= set(report.notes)
    rows = [row for row in check(tmp_path / "model.onnx", reference=captured).rows if row.name.startswith("difference")]
    assert len(rows) == 4
    assert rows[0].note == "; ".join(notes)


def test_one_size_alone_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captured = captured_of(lambda m, x: m(x) * torch.ones(2, 9, 4), noise(2, 9, 6))
    assert dynamic(captured) == [set()]
    report = export_onnx(captured, tmp_path / "model.onnx")
    assert report.notes == ("compared at 1 size only: 2×9×6",)
    assert json.loads(OnnxFile.read(report.path).metadata["parity"]) == [[[[2, 9, 6]], report.difference]]
    captured.save(tmp_path / "model.pt2")
    code, out, _ = run(["export", tmp_path / "model.pt2", "-o", tmp_path / "again.onnx", "--seconds", "1"], capsys)
    assert code == 0
    assert "at 2×9×6" in out
    assert "warning: compared at 1 size only: 2×9×6" in out
    rows = [row for row in check(tmp_path / "model.onnx", reference=captured).rows if row.name.startswith("difference")]
    assert [row.note for row in rows] == ["compared at 1 size only: 2×9×6"]


def test_a_size_that_torch_has_fixed_needs_no_second_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer fixes its features while it is traced; batch and length stay symbols."""
    made, export = [], torch.export.export

    def counted(*args: Any, **options: Any) -> Any:
        made.append(args)
        return export(*args, **options)

    monkeypatch.setattr(torch.export, "export", counted)
    captured = captured_of(lambda m, x: m(x), torch.randn(2, 7, 6))
    assert dynamic(captured) == [{0, 1}]
    assert len(made) == 1
