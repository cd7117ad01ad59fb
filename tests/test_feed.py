"""What a file is fed: the example's own values, or what can be told; where the cost hangs on a guess, no limit is met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.export.check import CheckRow, check
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.feed import example_feed, single
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.graph.capture import capture
from tests.command import run
from tests.onnx_files import node, written

FRAMES, IN, OUT = 50, 6, 5
WHOLE = 2 * FRAMES * IN * OUT
"""Operations of one item at its full length."""


def cutting(path: Path, lengths: str = "lengths", sizes: tuple[Any, Any] = ("batch", "time"), **more: Any) -> Path:
    """A layer over the frames that the longest item has, ``[batch, time, 6]``."""
    shape = [*sizes, IN]
    constants = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [1], [value]))
        for name, value in {"zero": 0, "one": 1}.items()
    ]
    cut = [
        node("ReduceMax", lengths, "longest"),
        node("Reshape", "longest one", "end"),
        node("Slice", "x zero end one", "cut"),
    ]
    nodes = [*constants, *cut, node("MatMul", "cut w")]
    return written(path, nodes, {"x": shape}, {"w": (IN, OUT)}, whole={lengths: [sizes[0]]}, **more)


def row_of(path: Path, name: str, **options: Any) -> CheckRow:
    options = {"seconds": 1.0, "example": [(2, FRAMES, IN), (2,)], "repeats": 1, **options}
    return next(row for row in check(path, **options).rows if row.name == name)


def test_a_length_is_fed_the_full_length(tmp_path: Path) -> None:
    row = row_of(cutting(tmp_path / "a.onnx"), "FLOP/s", max_flops=WHOLE - 1)
    assert row.measured == WHOLE
    assert not row.met
    assert "'lengths' is fed 50, the full length" in row.note
    assert row_of(cutting(tmp_path / "a.onnx"), "FLOP/s", max_flops=WHOLE).met


def test_a_number_that_decides_the_cost_is_asked_for(tmp_path: Path) -> None:
    path = cutting(tmp_path / "a.onnx", "n")
    row = row_of(path, "FLOP/s", max_flops=10 * WHOLE)
    assert row.measured == WHOLE, "the largest that was found"
    assert not row.met
    assert row.note.startswith(
        "the cost depends on 'n' (120 operations with 1, 6,000 operations with 50): give --feed n=N"
    )
    assert not row_of(path, "latency (s)", max_latency=10.0).met
    assert row_of(path, "FLOP/s", max_flops=WHOLE, values={"n": 50}).met
    assert row_of(path, "FLOP/s", values={"n": [7, 20]}).measured == 2 * 20 * IN * OUT
    assert row_of(path, "latency (s)", max_latency=10.0, values={"n": 50}).met


def test_a_number_that_decides_nothing_is_fed_one(tmp_path: Path) -> None:
    nodes = [
        node("Gather", "table speaker", "v"),
        node("Unsqueeze", "v at", "u"),
        node("Add", "x u", "h"),
        node("MatMul", "h w"),
    ]
    at = helper.make_node("Constant", [], ["at"], value=helper.make_tensor("at", TensorProto.INT64, [1], [1]))
    weights = {"w": (IN, OUT), "table": (10, IN)}
    path = written(
        tmp_path / "a.onnx", [at, *nodes], {"x": ["batch", "time", IN]}, weights, whole={"speaker": ["batch"]}
    )
    row = row_of(path, "FLOP/s", max_flops=WHOLE)
    assert row.met, row.note
    assert "'speaker' is fed 1" in row.note


def test_values_that_the_file_keeps_are_fed(tmp_path: Path) -> None:
    kept = {"example_shapes": [[2, FRAMES, IN], [2]], "example_values": {"n": [30, 40]}, "batch": 2, "seconds": 1.0}
    entries = {key: json.dumps(value) for key, value in kept.items()}
    path = cutting(tmp_path / "a.onnx", "n", metadata=entries)
    assert onnx_flops(path).flops == 2 * 40 * IN * OUT
    assert onnx_flops(path).notes == onnx_flops(path).doubts == ()
    file = OnnxFile.read(path)
    alone = single(file, example_feed(file))
    assert {name: array.shape for name, array in alone.arrays.items()} == {"x": (1, FRAMES, IN), "n": (1,)}
    assert alone.arrays["n"] == 40, "the longest item"
    assert example_feed(file, [(3, FRAMES, IN), (3,)]).arrays["n"].tolist() == [40, 30, 40]
    other = onnx_flops(path, example=[(2, 80, IN), (2,)])
    assert other.doubts, "lengths of another example say nothing"
    assert onnx_flops(path, values={"n": 10}).flops == 2 * 10 * IN * OUT


def test_the_batch_alone_is_cut_to_one_item(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "h"), node("ReduceSum", "state", "s", keepdims=0), node("Add", "h s")]
    inputs = {"x": ["n", "time", IN], "state": ["layers", "n", 3]}
    file = OnnxFile.read(written(tmp_path / "a.onnx", nodes, inputs, {"w": (IN, OUT)}))
    alone = single(file, example_feed(file, [(2, FRAMES, IN), (4, 2, 3)]))
    assert {name: array.shape for name, array in alone.arrays.items()} == {"x": (1, FRAMES, IN), "state": (4, 1, 3)}


def test_an_export_keeps_lengths_and_a_check_feeds_them(tmp_path: Path) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(IN, 8), nn.Linear(8, OUT)

        def forward(self, x: Tensor, n: Tensor) -> Any:
            mask = torch.arange(int(n.max()))[None] < n[:, None]
            return self.b(torch.relu(self.a(x[:, : mask.shape[1]])) * mask[..., None]).sum(1)

    torch.manual_seed(0)
    captured = capture(Cut().eval(), (torch.randn(2, FRAMES, IN), torch.tensor([30, FRAMES])))
    report = export_onnx(captured, tmp_path / "a.onnx", seconds=0.5)
    assert onnx_flops(tmp_path / "a.onnx").flops == report.flops == shrinkspeech.flops(captured, seconds=0.5)
    assert report.flops == 2 * FRAMES * (IN * 8 + 8 * OUT) / 0.5
    file = OnnxFile.read(tmp_path / "a.onnx")
    assert json.loads(file.metadata["example_values"]) == {"n": [30, FRAMES]}
    assert single(file, example_feed(file)).arrays["n"] == FRAMES
    assert not check(tmp_path / "a.onnx", max_flops=report.flops - 1).met


def test_a_fixed_batch_counts_once(tmp_path: Path) -> None:
    ours = {"batch": "2", "seconds": "1.0", "example_values": json.dumps({"n": [FRAMES, 3]})}
    assert onnx_flops(cutting(tmp_path / "a.onnx", "n", (2, FRAMES), metadata=ours)).flops == WHOLE
    foreign = cutting(tmp_path / "b.onnx", "lengths", (2, FRAMES))
    row = row_of(foreign, "FLOP/s")
    assert row.measured == 2 * WHOLE
    assert "the first dimension of 'x' is fixed at 2 and counts as one item: --batch 2 if it is a batch" in row.note
    assert row_of(foreign, "FLOP/s", batch=2).measured == WHOLE
    assert "the file fixes a batch of 2" in row_of(foreign, "latency (s)", batch=2, max_latency=10.0).note
    frames = written(tmp_path / "c.onnx", [node("MatMul", "x w")], {"x": ["frames", IN]}, {"w": (IN, OUT)})
    row = row_of(frames, "FLOP/s", example=[(FRAMES, IN)])
    assert row.measured == WHOLE
    assert "is called 'frames' and counts as one item" in row.note
    samples = written(tmp_path / "d.onnx", [node("Conv", "u w", "y")], {"u": [1, 1, 100]}, {"w": (4, 1, 5)})
    assert onnx_flops(samples, seconds=1.0).flops == 2 * 96 * 4 * 5


@pytest.mark.parametrize("entry", ["1e308", "400", "inf", "nan", "0", "-1", "long"])
def test_seconds_that_cannot_be_are_refused(entry: str, tmp_path: Path) -> None:
    path = cutting(tmp_path / "a.onnx", metadata={"seconds": entry})
    example = [(2, FRAMES, IN), (2,)]
    with pytest.raises(InputError, match=r"seconds of audio in the example must be|cannot be: give --seconds"):
        check(path, max_flops=1e9, example=example)
    [row] = [row for row in check(path, example=example).rows if row.name == "FLOP/s"]
    assert row.note.startswith("not counted: ")
    assert "--seconds" in row.note
    assert check(path, max_flops=1e9, example=example, seconds=1.0).met


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_no_export_is_written_with_such_seconds(seconds: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seconds of audio"):
        export_onnx(capture(nn.Linear(6, 3).eval(), (torch.randn(2, 9, 6),)), tmp_path / "a.onnx", seconds=seconds)
    assert list(tmp_path.iterdir()) == []


def test_the_row_of_flops_says_what_is_missing(tmp_path: Path) -> None:
    path = cutting(tmp_path / "a.onnx")
    rows = {row.name: row for row in check(path).rows}
    assert "no fixed size" in rows["FLOP/s"].note
    rows = {row.name: row for row in check(path, example=[(2, FRAMES, IN), (2,)]).rows}
    assert "give --seconds" in rows["FLOP/s"].note
    assert rows["FLOP/s"].met
    assert np.isinf(rows["FLOP/s"].measured)


class Loud(nn.Module):
    """Works on the frames alone that are louder than a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level, self.layer = level, nn.Linear(IN, OUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[x.square().mean(-1) > self.level])


def test_a_cost_that_hangs_on_the_signal_meets_no_limit(tmp_path: Path) -> None:
    x = torch.randn(2, FRAMES, IN, generator=torch.Generator().manual_seed(0))
    for level, met in ((0.5, False), (-1.0, True)):
        path = export_onnx(capture(Loud(level).eval(), (x,)), tmp_path / "a.onnx").path
        row = row_of(path, "FLOP/s", max_flops=10 * WHOLE, example=None)
        assert row.met is met
        assert ("the cost depends on what the signal holds (0 operations on faint noise, " in row.note) is not met


def test_what_is_fed_must_fit(tmp_path: Path) -> None:
    path = cutting(tmp_path / "a.onnx")
    wrong: dict[str, dict[str, Any]] = {
        "names no input: the model has x, lengths": {"values": {"length": 3}},
        "3 numbers do not fill 2": {"values": {"lengths": [1, 2, 3]}},
        "the input holds int64": {"values": {"lengths": 1.5}},
        "the input holds int64, and nan": {"values": {"lengths": float("nan")}},
        "--batch must be at least 1": {"batch": 0},
    }
    for message, options in wrong.items():
        with pytest.raises(InputError, match=message):
            row_of(path, "FLOP/s", **options)


@pytest.mark.parametrize(
    "entries",
    [{"example_shapes": "[[2"}, {"example_shapes": "5"}, {"example_shapes": '[["a"]]'}]
    + [{"example_values": value} for value in ("{", "3", '{"lengths": "a"}', '{"lengths": [[1], [2, 3]]}')],
)
def test_metadata_that_cannot_be_read_is_named(entries: dict[str, str], tmp_path: Path) -> None:
    shapes = {"example_shapes": json.dumps([[2, FRAMES, IN], [2]])}
    path = cutting(tmp_path / "a.onnx", metadata={**shapes, **entries})
    with pytest.raises(InputError, match=f"the entry '{next(iter(entries))}' of .*a.onnx .*: give --"):
        onnx_flops(path, seconds=1.0)


def test_the_command_takes_values_and_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(cutting(tmp_path / "a.onnx", "n", (2, FRAMES)))
    options = ["--seconds", "1", "--feed", f"n={FRAMES},3", "--batch", "2", "--max-flops", str(WHOLE)]
    code, out, _ = run(["check", path, *options], capsys)
    assert (code, f"{WHOLE:,}" in out) == (0, True), out
    code, out, _ = run(["check", path], capsys)
    assert (code, out.splitlines()[1].split()[:2]) == (0, ["FLOP/s", "?"])
