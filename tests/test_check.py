"""``check``: the cost of any ONNX file, counted from its graph, and the limits that it must keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from shrinkspeech.errors import InputError
from shrinkspeech.export.check import CheckReport, check
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.file_cost import OnnxCost, onnx_flops
from shrinkspeech.export.timing import compare_speed, timing
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from tests.onnx_files import FLOAT, node, written

COUNTED: dict[str, tuple[Any, dict[str, list[Any]], dict[str, tuple[int, ...]], float]] = {
    "gemm, both transposed": (node("Gemm", "x w", transA=1, transB=1), {"x": [6, 2]}, {"w": (5, 6)}, 2 * 2 * 5 * 6),
    "matmul that broadcasts": (node("MatMul", "x w"), {"x": [2, 3, 4, 6]}, {"w": (3, 6, 5)}, 2 * 2 * 3 * 4 * 5 * 6),
    "matmul by a vector": (node("MatMul", "x w"), {"x": [4, 6]}, {"w": (6,)}, 2 * 4 * 6),
    "grouped convolution": (
        node("Conv", "x w", group=2, strides=[2]),
        {"x": [1, 4, 11]},
        {"w": (6, 2, 3)},
        2 * 6 * 5 * 2 * 3,
    ),
    "grouped transposed convolution": (
        node("ConvTranspose", "x w", group=2),
        {"x": [1, 4, 11]},
        {"w": (4, 3, 5)},
        2 * 4 * 11 * 3 * 5,
    ),
    "gru in two directions": (
        node("GRU", "x w r", "y", hidden_size=5, direction="bidirectional"),
        {"x": [7, 2, 6]},
        {"w": (2, 15, 6), "r": (2, 15, 5)},
        2 * 7 * 2 * 2 * 15 * (6 + 5),
    ),
    "lstm": (
        node("LSTM", "x w r", "y", hidden_size=5),
        {"x": [7, 2, 6]},
        {"w": (1, 20, 6), "r": (1, 20, 5)},
        2 * 7 * 2 * 20 * (6 + 5),
    ),
    "rnn": (
        node("RNN", "x w r", "y", hidden_size=5),
        {"x": [7, 2, 6]},
        {"w": (1, 5, 6), "r": (1, 5, 5)},
        2 * 7 * 2 * 5 * (6 + 5),
    ),
    "einsum of two": (
        node("Einsum", "x w", equation="bct,oc->bot"),
        {"x": [2, 3, 7]},
        {"w": (5, 3)},
        2 * 2 * 3 * 7 * 5,
    ),
    "einsum with an ellipsis": (
        node("Einsum", "x w", equation="...i,io->...o"),
        {"x": [2, 4, 3]},
        {"w": (3, 5)},
        2 * 2 * 4 * 3 * 5,
    ),
    "einsum without an arrow": (node("Einsum", "x w", equation="ij,jk"), {"x": [2, 3]}, {"w": (3, 5)}, 2 * 2 * 3 * 5),
    "einsum of three": (
        node("Einsum", "x w v", equation="ij,jk,kl->il"),
        {"x": [2, 3]},
        {"w": (3, 5), "v": (5, 7)},
        2 * 2 * 3 * 5 + 2 * 2 * 5 * 7,
    ),
    "einsum of one": (node("Einsum", "x", equation="ij->ji"), {"x": [2, 3]}, {}, 0),
}


@pytest.mark.parametrize("name", COUNTED)
def test_operators_are_counted_by_the_shapes_that_occur(name: str, tmp_path: Path) -> None:
    made, inputs, weights, wanted = COUNTED[name]
    cost = onnx_flops(written(tmp_path / "a.onnx", [made], inputs, weights), seconds=0.5)
    assert cost.flops == pytest.approx(wanted / 0.5)
    assert not cost.uncounted
    assert cost.parameters == sum(int(np.prod(shape)) for shape in weights.values())
    assert cost.bytes == (tmp_path / "a.onnx").stat().st_size


def test_attention_counts_every_key(tmp_path: Path) -> None:
    heads = {"q": [1, 2, 5, 8], "k": [1, 2, 7, 8], "v": [1, 2, 7, 6]}
    path = written(tmp_path / "a.onnx", [node("Attention", "q k v")], heads, opset=23)
    assert onnx_flops(path, seconds=1.0).flops == 2 * 2 * 5 * 7 * (8 + 6)


def test_a_function_of_the_file_is_counted_like_any_node(tmp_path: Path) -> None:
    body = [node("MatMul", "a b", "c"), node("MatMul", "c b", "d")]
    twice = helper.make_function("local", "Twice", ["a", "b"], ["d"], body, [helper.make_opsetid("", 20)])
    call = [node("Twice", "x w", domain="local")]
    path = written(tmp_path / "a.onnx", call, {"x": [4, 6]}, {"w": (6, 6)}, functions=[twice])
    assert onnx_flops(path, seconds=1.0).flops == 2 * (2 * 4 * 6 * 6)


def branches(kind: str) -> Any:
    """An ``If`` whose two branches hold one operator on ``x`` and ``w``."""
    bodies = [
        helper.make_graph([node(kind, "x w", name)], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])
        for name in ("yes", "no")
    ]
    return [
        node("ReduceSum", "x", "sum", keepdims=0),
        helper.make_node("Cast", ["sum"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]


def test_what_is_not_counted_is_named_and_meets_no_limit(tmp_path: Path) -> None:
    inside = written(tmp_path / "if.onnx", branches("MatMul"), {"x": [4, 4]}, {"w": (4, 4)})
    assert onnx_flops(inside, seconds=1.0).uncounted == {"If (MatMul)": 1}
    harmless = written(tmp_path / "harmless.onnx", branches("Add"), {"x": [4, 4]}, {"w": (4, 4)})
    assert not onnx_flops(harmless, seconds=1.0).uncounted
    unknown = written(tmp_path / "det.onnx", [node("Det", "x")], {"x": [4, 4]})
    report = check(unknown, max_flops=1e9, seconds=1.0)
    [row] = [row for row in report.rows if row.name == "FLOP/s"]
    assert not row.met
    assert not report.met
    assert "1 × Det" in row.note
    assert check(unknown, seconds=1.0).met, "nothing was asked for"


def test_fourier_transforms_stand_apart(tmp_path: Path) -> None:
    weights = {"window": (64,)}
    constants = [
        node("Constant", "", "step", value_int=16),
        helper.make_node("STFT", ["x", "step", "window"], ["y"]),
    ]
    cost = onnx_flops(written(tmp_path / "a.onnx", constants, {"x": [1, 160, 1]}, weights), seconds=1.0)
    assert cost.flops == 0
    assert cost.transforms == pytest.approx(7 * 2.5 * 64 * 6)
    assert not cost.uncounted
    forward = [node("DFT", "x", "y")]
    cost = onnx_flops(written(tmp_path / "b.onnx", forward, {"x": [3, 64, 1]}, {}), seconds=1.0)
    assert (cost.flops, cost.uncounted) == (0, {})
    assert cost.transforms == pytest.approx(3 * 2.5 * 64 * 6)


def test_sizes_and_seconds_that_nobody_says_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.onnx", [node("MatMul", "x w")], {"x": ["batch", "time", 6]}, {"w": (6, 5)})
    with pytest.raises(InputError, match="--seconds"):
        onnx_flops(path, example=[(1, 3, 6)])
    with pytest.raises(InputError, match=r"input 'x' has no fixed size \(batch, time, 6\).*--example"):
        onnx_flops(path, seconds=1.0)
    with pytest.raises(InputError, match="does not fit"):
        onnx_flops(path, seconds=1.0, example=[(1, 3, 7)])
    with pytest.raises(InputError, match="2 example shapes"):
        onnx_flops(path, seconds=1.0, example=[(1, 3, 6), (1,)])
    with pytest.raises(InputError, match="'x'"):
        onnx_flops(path, seconds=1.0, example={"z": (1, 3, 6)})
    with pytest.raises(InputError, match="above 0"):
        onnx_flops(path, seconds=0.0, example=[(1, 3, 6)])
    one, four = (onnx_flops(path, seconds=1.0, example={"x": (batch, 3, 6)}) for batch in (1, 4))
    assert one.flops == four.flops == 2 * 3 * 6 * 5
    assert check(path, max_params=30, max_bytes=1000).met, "sizes are not needed for what does not depend on them"
    with pytest.raises(InputError, match="--seconds"):
        check(path, max_flops=1e6)


def test_what_is_not_onnx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        onnx_flops(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(InputError, match="not a valid ONNX model"):
        check(tmp_path / "text.onnx")


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Conv1d(8, 4, 1))
    return capture(model.eval(), (torch.randn(2, 3, 60),))


@pytest.fixture(scope="module")
def exported(captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(captured, path)
    return path


def measured(report: CheckReport) -> dict[str, float]:
    return {row.name: row.measured for row in report.rows}


def test_limits_are_kept_or_not(exported: Path) -> None:
    cost: OnnxCost = onnx_flops(exported)
    assert cost.flops == 56 * 2 * (8 * 3 * 5 + 8 * 4)
    assert cost.parameters == 8 * 3 * 5 + 8 + 8 * 4 + 4
    exact = check(exported, max_flops=cost.flops, max_params=cost.parameters, max_bytes=cost.bytes, max_latency=10.0)
    assert exact.met
    assert measured(exact)["FLOP/s"] == cost.flops
    assert 0 < measured(exact)["latency (s)"] < 10
    limits: list[dict[str, float]] = [
        {"max_flops": cost.flops - 1},
        {"max_params": cost.parameters - 1},
        {"max_bytes": cost.bytes - 1},
        {"max_latency": 1e-9},
    ]
    for limit in limits:
        report = check(exported, **limit)  # type: ignore[arg-type]
        assert not report.met
        assert [row.met for row in report.rows].count(False) == 1


def changed(path: Path, target: Path) -> Path:
    """The file with one weight changed; its metadata still says what it was."""
    model = onnx.load(str(path))
    tensor = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(target))
    return target


def test_a_reference_is_agreed_with_at_two_sizes_or_the_check_fails(
    captured: Captured, exported: Path, tmp_path: Path
) -> None:
    good = check(exported, reference=captured)
    differences = [row for row in good.rows if row.name.startswith("difference")]
    assert good.met
    assert {row.name for row in differences} >= {"difference at 2×3×60", "difference at 1×3×45"}
    assert all(row.limit == 1e-4 and row.measured < 1e-5 for row in differences)
    bad = check(changed(exported, tmp_path / "changed.onnx"), reference=captured)
    assert not bad.met
    assert [row.name for row in bad.rows if not row.met] == [row.name for row in differences]
    assert check(tmp_path / "changed.onnx", reference=captured, tolerance=100.0).met


def test_a_file_of_fixed_sizes_is_compared_at_those(captured: Captured, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 50), strict=True):
        dim.dim_value = size
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    report = check(tmp_path / "fixed.onnx", reference=captured, seconds=1.0, example=[(1, 3, 50)])
    assert [row.name for row in report.rows if row.name.startswith("difference")] == ["difference at 1×3×50"]
    assert report.met


def test_a_model_of_another_kind_does_not_meet_the_reference(exported: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return x * z

    other = capture(Two().eval(), (torch.randn(2, 3, 60), torch.randn(2, 3, 60)))
    report = check(exported, reference=other)
    assert not report.met
    assert any("1 inputs" in row.note for row in report.rows)


def test_speed_is_compared_within_one_run(tmp_path: Path) -> None:
    sizes = {"small": 32, "large": 512}
    small, large = (
        written(
            tmp_path / f"{name}.onnx",
            [node("MatMul", "x w", "h"), node("MatMul", "h v")],
            {"x": [256, 64]},
            {"w": (64, width), "v": (width, 64)},
        )
        for name, width in sizes.items()
    )
    inputs = (torch.randn(256, 64),)
    assert compare_speed(large, small, inputs, repeats=30) > 2
    assert compare_speed(small, large, inputs, repeats=30) < 0.5
    assert 0 < timing(small, inputs, repeats=5) < 1
