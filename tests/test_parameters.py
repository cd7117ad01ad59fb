"""Parameters are counted one way: what ``fit`` holds to a budget is what the export writes and ``check`` measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.budget.params import Params
from shrinkspeech.export.check import check
from shrinkspeech.export.constants import weight_elements
from shrinkspeech.export.exporter import ExportReport, export_onnx
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from tests.onnx_files import FLOAT, node, written


class Detector(nn.Module):
    """Tables and windows, a batch norm that the export merges, equal tensors of which it keeps one, and shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.window, self.mel = nn.Buffer(torch.hann_window(40)), nn.Buffer(torch.rand(40, 20))
        self.conv, self.norm = nn.Conv1d(20, 8, 3), nn.BatchNorm1d(8)
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.codes = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(((x * self.window) @ self.mel).transpose(1, 2))).relu()
        h = self.gru(self.second(torch.tanh(self.first(h.transpose(1, 2)))))[0]
        return h @ self.codes @ self.codes.T


TRAINED = 8 * 20 * 3 + 8 + 2 * 8 + 4 * 8 + 18 * (8 + 6 + 2) + 36


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return capture(Detector().eval(), (torch.randn(2, 9, 40),))


@pytest.fixture(scope="module")
def report(captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_onnx(captured, tmp_path_factory.mktemp("onnx") / "model.onnx")


def row(path: Path, **options: Any) -> Any:
    return next(row for row in check(path, **options).rows if row.name == "parameters")


def test_fit_export_and_check_count_the_same(captured: Captured, report: ExportReport) -> None:
    assert sum(x.numel() for x in Detector().parameters()) == TRAINED
    assert Params(captured, shrinkspeech.label(captured)).original == TRAINED
    assert report.parameters == onnx_flops(report.path).parameters == TRAINED
    held = weight_elements(onnx.load(str(report.path)))
    assert held > TRAINED + 40 * 20, "tables and windows are in the file"
    assert row(report.path, max_params=TRAINED).met
    assert row(report.path).note == f"trained ones; the file holds {held:,} constants"
    assert not row(report.path, max_params=TRAINED - 1).met


def test_a_file_that_was_changed_is_counted_whole(report: ExportReport, tmp_path: Path) -> None:
    model = onnx.load(str(report.path))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(7, np.float32), "more"))
    onnx.save(model, str(tmp_path / "more.onnx"))
    found = row(tmp_path / "more.onnx", max_params=TRAINED)
    assert found.measured == weight_elements(model)
    assert not found.met
    assert found.note == "all constants: they are no longer those that the export wrote"


def constant(name: str, **value: Any) -> Any:
    return helper.make_node("Constant", [], [name], **value)


def test_constants_of_every_kind_are_counted(tmp_path: Path) -> None:
    def branch(name: str, size: int) -> Any:
        held = [numpy_helper.from_array(np.ones(size, np.float32), f"{name}_w")]
        inner = [constant(f"{name}_c", value_floats=[1.0, 2.0, 3.0, 4.0]), node("Mul", f"x {name}_w", name)]
        return helper.make_graph(inner, name, [], [helper.make_tensor_value_info(name, FLOAT, None)], held)

    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", FLOAT, [3], [1.0, 2.0, 3.0]),
        helper.make_tensor("i", TensorProto.INT64, [3], [0, 5, 9]),
        [10],
    )
    nodes = [
        constant("flag", value=helper.make_tensor("f", TensorProto.BOOL, [], [True])),
        constant("a", value_float=0.5),
        constant("b", value_ints=[1, 2, 3]),
        constant("c", value=numpy_helper.from_array(np.ones((2, 6), np.float32))),
        constant("d", sparse_value=sparse),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("yes", 4), else_branch=branch("no", 1)),
    ]
    path = written(tmp_path / "a.onnx", nodes, {"x": [4]}, {"w": (5,)})
    model = onnx.load(str(path))
    assert weight_elements(model) == 1 + 12 + 3 + (4 + 4) + (4 + 1) + 5
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("t", FLOAT, [2], [1.0, 2.0]),
            helper.make_tensor("j", TensorProto.INT64, [2], [0, 5]),
            [10],
        )
    )
    assert weight_elements(model) == 36
    assert row(path).measured == 34
    assert row(path).note == "all constants, tables and windows too"
