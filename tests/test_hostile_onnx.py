"""ONNX files that mean harm, or nothing: ``check`` ends in time, and with a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shrinkspeech.errors import InputError
from shrinkspeech.export.check import check
from tests.onnx_files import FLOAT, node, written


def _endless(path: Path) -> Path:
    """A loop of 10¹⁵ turns that keeps one number."""
    turn, going, x = ("turn", TensorProto.INT64, []), ("going", TensorProto.BOOL, []), ("x", FLOAT, [1])
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Add", ["x", "x"], ["more"]),
        ],
        "body",
        [info(*turn), info(*going), info(*x)],
        [info("still", TensorProto.BOOL, []), info("more", FLOAT, [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "true", "start"], ["y"], body=body)],
        "graph",
        [info("start", FLOAT, [1])],
        [info("y", FLOAT, [1])],
        [numpy_helper.from_array(np.int64(10**15), "turns"), numpy_helper.from_array(np.bool_(True), "true")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_file_without_an_end_is_given_up(tmp_path: Path) -> None:
    path = _endless(tmp_path / "endless.onnx")
    options = ["check", str(path), "--seconds", "1", "--max-latency", "1s", "--timeout", "0.2"]
    found = subprocess.run(
        [sys.executable, "-m", "shrinkspeech_cli.main", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert found.returncode == 2
    assert found.stderr == f"Error: {path} takes longer than 0.2 s: give more with --timeout, or 0 for no limit\n"
    assert found.stdout == ""


RELU = node("Relu", "x")


def _file(tmp_path: Path, shape: list[Any], **metadata: str) -> Path:
    path = written(tmp_path / "model.onnx", [RELU], {"x": shape})
    model = onnx.load(path)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("size", [-5, -(2**63), 2**40, 2**62])
def test_sizes_that_no_input_has(tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"input 'x' cannot be fed 1×{size} numbers: give a shape with --example"):
        check(_file(tmp_path, [1, size]), seconds=1.0, max_flops=1.0)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"example_shapes": "[[1, 2], [3]]"}, "2 example shapes were given, the model has 1 inputs"),
        ({"example_shapes": "[[1, 2, 3]]"}, "does not fit input 'x'"),
        ({"example_shapes": "[[1, -2]]"}, "is no list of shapes"),
        ({"example_shapes": "[[1, 1e999]]"}, "is no list of shapes"),
        ({"example_shapes": f"[[1, {10**30}]]"}, f"input 'x' cannot be fed 1×{10**30} numbers"),
        ({"example_shapes": "[" * 100_000}, "is not JSON"),
        ({"example_shapes": "[[1, 8]]", "example_values": "[1]"}, "is no list of inputs"),
        ({"example_shapes": "[[1, 8]]", "example_values": '{"x": [[1], [2, 3]]}'}, "holds no numbers for 'x'"),
        (
            {"example_shapes": "[[1, 8]]", "states": '[{"input": "x", "output": "y", "shape": [1e999]}]'},
            "no list of states",
        ),
        ({"example_shapes": "[[1, 8]]", "seconds": "1e999"}, "must be a number above 0"),
        ({"example_shapes": "[[1, 8]]", "seconds": "-1"}, "must be a number above 0"),
        ({"example_shapes": "[[1, 8]]", "seconds": "{}"}, "must be a number above 0"),
    ],
)
def test_metadata_of_another_shape(tmp_path: Path, metadata: dict[str, str], told: str) -> None:
    with pytest.raises(InputError) as caught:
        check(_file(tmp_path, [None, None], **{"seconds": "1", **metadata}), max_flops=1.0, max_latency=1.0)
    assert told in str(caught.value)


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.UNDEFINED, 99])
def test_inputs_that_hold_no_numbers(tmp_path: Path, kind: int) -> None:
    path = _file(tmp_path, [1, 8])
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"holds no numbers|is not a valid ONNX model"):
        check(path, seconds=1.0, max_latency=1.0)


def test_what_only_fails_when_it_runs(tmp_path: Path) -> None:
    """A place outside of the input passes the checker and the loading."""
    path = written(tmp_path / "model.onnx", [node("Gather", "x i")], {"x": [1, 8]}, whole={"i": [1]})
    with pytest.raises(InputError, match="onnxruntime cannot run the model on inputs of 1×8; 1: "):
        check(path, seconds=1.0, max_latency=1.0, values={"i": [7]})


def test_a_circle_of_nodes(tmp_path: Path) -> None:
    path = _file(tmp_path, [1, 8])
    model = onnx.load(path)
    model.graph.node.add().CopyFrom(helper.make_node("Add", ["x", "b"], ["a"]))
    model.graph.node.add().CopyFrom(helper.make_node("Relu", ["a"], ["b"]))
    onnx.save(model, path)
    with pytest.raises(InputError, match="is not a valid ONNX model"):
        check(path)
