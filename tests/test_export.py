"""ONNX export: what is written agrees with torch, costs what was counted, and nothing else is ever left on disk."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from sample_models.crnn_vad import model as crnn_vad
from shrinkspeech.errors import ExportError, InputError
from shrinkspeech.export import exporter
from shrinkspeech.export.check import check
from shrinkspeech.export.exporter import ExportReport, export_onnx
from shrinkspeech.export.file_cost import onnx_flops
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.parity import parity
from shrinkspeech.graph import stand_ins as recurrent
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import distance, is_sound
from tests.export_cases import CASES, FRAMES, Apply, noise

WEIGHTS = Path(crnn_vad.__file__).with_name("weights.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_the_file_agrees_with_the_model_and_costs_what_was_counted(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example, others = CASES[name]()
    captured = capture(model.eval(), example)
    report = export_onnx(captured, tmp_path / "model.onnx", seconds=0.5)
    inputs = tuple(noise(*shape) for shape in others)
    with torch.no_grad():
        wanted = [x for x in torch.utils._pytree.tree_leaves(model(*inputs)) if isinstance(x, Tensor)]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {value.name: x.numpy() for value, x in zip(session.get_inputs(), inputs, strict=True)})
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y.numpy(), rtol=1e-4, atol=1e-5)
    cost = onnx_flops(tmp_path / "model.onnx")
    assert cost.flops == pytest.approx(shrinkspeech.flops(captured, seconds=0.5), rel=1e-3)
    assert report.flops == pytest.approx(cost.flops, rel=1e-3)
    assert cost.flops > 0
    assert not cost.uncounted
    assert not report.notes
    assert report.difference < 1e-5


@pytest.fixture(scope="module")
def vad() -> Captured:
    return capture(crnn_vad.load(WEIGHTS), (noise(2, 8000),))


@pytest.fixture(scope="module")
def vad_file(vad: Captured, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    path = tmp_path_factory.mktemp("onnx") / "vad.onnx"
    report = export_onnx(vad, path, seconds=0.5, stft="op", metadata={"source": "abc", "budget": "25%", "seconds": "7"})
    return path, report


def test_a_real_detector(vad: Captured, vad_file: tuple[Path, ExportReport]) -> None:
    path, report = vad_file
    assert {len(item.shapes) for item in report.parity} == {1}
    assert {item.shapes[0] for item in report.parity} == {(2, 8000), (2, 6000), (1, 8000), (1, 6000)}
    assert report.difference < 1e-5
    assert report.dynamic == {"wave": {0: "batch", 1: "time"}}
    assert report.nonstandard == ()
    assert report.opset >= 18
    assert report.bytes == path.stat().st_size
    assert onnx_flops(path).flops == pytest.approx(shrinkspeech.flops(vad, seconds=0.5), rel=1e-6)
    frames = onnxruntime.InferenceSession(path).run(["output"], {"wave": noise(1, 24000).numpy()})[0]
    with torch.no_grad():
        wanted = crnn_vad.load(WEIGHTS)(noise(1, 24000))
    assert frames.shape == (1, 151)
    assert distance(torch.from_numpy(frames), wanted) < 1e-5


def test_recurrent_weights_are_not_reordered_at_every_run(vad_file: tuple[Path, ExportReport]) -> None:
    graph = onnx.load(vad_file[0]).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "GRU"]
    assert len(layers) == 2
    assert len(graph.node) == vad_file[1].nodes <= 50
    assert all(set(node.input[1:4]) <= constants.keys() for node in layers)
    assert layers[0].input[1] == "gru.weight_ih_l0_onnx"
    assert layers[0].name.startswith("gru/")
    assert sum(np.prod(tensor.dims) for tensor in graph.initializer) < 1.02 * sum(
        p.numel() for p in crnn_vad.load(WEIGHTS).state_dict().values()
    )


def test_metadata_says_what_the_file_is_and_no_more(vad_file: tuple[Path, ExportReport]) -> None:
    path, report = vad_file
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert entries["source"] == "abc"
    assert entries["budget"] == "25%"
    assert entries["shrinkspeech_version"] == shrinkspeech.__version__
    assert float(entries["seconds"]) == 0.5, "what the export knows is not overwritten"
    assert float(entries["flops_per_second"]) == report.flops
    assert json.loads(entries["example_shapes"]) == [[2, 8000]]
    assert b"model.py" not in path.read_bytes()


def test_a_sliced_model_of_other_widths(vad: Captured, tmp_path: Path) -> None:
    groups = shrinkspeech.label(vad)
    widths = {group.name: max(1, group.size * (3 + i) // 8) for i, group in enumerate(groups.shrinkable)}
    sliced = shrinkspeech.slice(vad, groups, widths)
    report = export_onnx(sliced, tmp_path / "small.onnx", seconds=0.5)
    assert onnx_flops(tmp_path / "small.onnx").flops == pytest.approx(
        shrinkspeech.flops(vad, groups, widths, seconds=0.5), rel=1e-6
    )
    assert report.flops < 0.6 * shrinkspeech.flops(vad, seconds=0.5)


def corrupted(model: Any, metadata: Any) -> OnnxFile:
    """The model with one weight of its last layer changed."""
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    tensor = next(t for t in proto.graph.initializer if t.name == "head.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1.0, tensor.name))
    return OnnxFile.of(proto)


def test_a_file_that_differs_is_refused_and_not_written(
    vad: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_serialised", corrupted)
    (tmp_path / "old.onnx").write_text("older")
    with pytest.raises(ExportError, match=r"on inputs of \dx\d+ .* differs .* by \d".replace("x", "×")):
        export_onnx(vad, tmp_path / "old.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_text() == "older"


def test_what_onnx_has_not_is_refused_in_one_sentence(tmp_path: Path) -> None:
    captured = capture(Apply(lambda m, x: torch.special.i0e(m.head(x)), head=nn.Linear(6, 3)).eval(), FRAMES)
    with pytest.raises(ExportError, match="cannot be written as ONNX: ") as caught:
        export_onnx(captured, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_recurrent_layer_that_onnx_has_not_is_named() -> None:
    translate = recurrent.onnx_translations()[torch.ops.shrinkspeech.lstm.default]
    weights = [noise(20, 6), noise(20, 2), noise(20), noise(20), noise(2, 5)]
    with pytest.raises(NotImplementedError, match="projection"):
        translate(noise(2, 9, 6), [noise(1, 2, 2), noise(1, 2, 5)], weights, True, 1, 0.0, False, False, True)


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    model = Apply(lambda m, x: {"logits": m.head(x), "more": (x + 1, x.mean(1))}, head=nn.Linear(6, 3))
    export_onnx(capture(model.eval(), FRAMES), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [value.name for value in session.get_outputs()] == ["logits", "more_0", "more_1"]
    assert session.get_outputs()[0].shape[:2] == ["batch", "time"]


def test_sizes_that_the_model_fixes_stay_fixed(tmp_path: Path) -> None:
    model = Apply(lambda m, x: m.head(x) + m.table, head=nn.Linear(6, 3), table=nn.Parameter(noise(9, 3)))
    report = export_onnx(capture(model.eval(), FRAMES), tmp_path / "model.onnx")
    assert report.dynamic == {"x": {0: "batch"}}
    assert {item.shapes[0] for item in report.parity} == {(2, 9, 6), (1, 9, 6)}


def test_a_run_that_fails_where_torch_runs_is_an_error(tmp_path: Path) -> None:
    model = Apply(lambda m, x: m.head(x) + m.table, head=nn.Linear(6, 3), table=nn.Parameter(noise(1, 3)))
    captured = capture(model.eval(), FRAMES)
    fixed = Captured(captured.graph_module, captured.example_inputs, (frozenset({0}),), captured.shapes)
    export_onnx(fixed, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=re.escape("cannot run the ONNX model on inputs of 2×5×6")):
        parity(captured, tmp_path / "model.onnx", [(noise(2, 5, 6),)])


def test_nothing_is_printed(vad: Captured, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(capture(nn.Linear(6, 3).eval(), FRAMES), tmp_path / "model.onnx")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_distance_is_infinite_where_values_are_missing() -> None:
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([1.0, -2.0])
    assert distance(x, x) == 0.0
    assert distance(x + torch.tensor([0.0, 0.5]), x) == pytest.approx(0.25)
    assert distance(torch.tensor([1.0, nan]), x) == inf
    assert distance(x, torch.tensor([1.0, nan])) == inf
    assert distance(torch.tensor([1.0, nan]), torch.tensor([1.0, nan])) == inf
    assert distance(torch.tensor([1.0, nan]), torch.tensor([1.0, nan]), nan_agrees=True) == 0.0
    assert distance(torch.tensor([1.0, inf]), torch.tensor([1.0, -inf])) == inf
    assert distance(torch.tensor([1.0, -inf]), torch.tensor([1.0, -inf])) == 0.0
    assert distance(x[:1], x) == inf


@pytest.mark.parametrize(
    ("values", "sound"),
    [
        ([1.0, 2.0], True),
        ([1.0, -math.inf], True),
        ([1.0, math.inf], False),
        ([1.0, math.nan], False),
        ([-math.inf, -math.inf], False),
        ([], True),
    ],
)
def test_outputs_that_are_not_finite_cannot_be_used(values: list[float], sound: bool) -> None:
    assert is_sound([torch.ones(3), torch.tensor(values)]) is sound


def test_broken_weights_are_not_exported(tmp_path: Path) -> None:
    captured = capture(nn.Linear(6, 3).eval(), FRAMES)
    export_onnx(captured, tmp_path / "sound.onnx")
    with torch.no_grad():
        captured.graph_module.get_parameter("weight")[0, 0] = math.nan
    with pytest.raises(InputError, match="weight holds values that are not finite"):
        export_onnx(captured, tmp_path / "broken.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["sound.onnx"]
    report = check(tmp_path / "sound.onnx", reference=captured)
    assert not report.met
    assert "are not finite" in report.rows[-1].note


def test_a_model_is_captured_though_the_example_makes_it_nan(tmp_path: Path) -> None:
    """Noise is no power spectrum: the graph is that of the model all the same, and the export asks for a better example."""
    model = Apply(lambda m, x: m.head(x.log()), head=nn.Linear(6, 3)).eval()
    captured = capture(model, FRAMES)
    assert captured.dynamic == (frozenset({0, 1}),)
    assert any("outputs are not finite on the example" in note for note in captured.notes)
    with pytest.raises(ExportError, match="example is not like the model's real inputs"):
        export_onnx(captured, tmp_path / "model.onnx")
    assert len(export_onnx(capture(model, (FRAMES[0].square(),)), tmp_path / "model.onnx").parity) == 4


@pytest.mark.parametrize(
    "idle",
    [
        lambda x: x.squeeze(-1),
        lambda x: x.squeeze((0, -1)),
        lambda x: x.squeeze(),
        lambda x: x.narrow(1, 0, x.shape[1]),
        lambda x: x[:, : x.shape[1]],
        lambda x: x.split(x.shape[1], 1)[0],
        lambda x: x.chunk(1, 1)[0],
    ],
)
def test_what_does_nothing_is_written(idle: Any, tmp_path: Path) -> None:
    model = Apply(lambda m, x: m.head(idle(x)[:, None, 1:]), head=nn.Conv1d(1, 4, 9))
    report = export_onnx(capture(model.eval(), (noise(2, 160),)), tmp_path / "model.onnx")
    assert report.dynamic == {"x": {0: "batch", 1: "time"}}
    assert {item.shapes[0] for item in report.parity} == {(2, 160), (2, 120), (1, 160), (1, 120)}
