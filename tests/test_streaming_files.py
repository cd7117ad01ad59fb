"""Streaming models through a fit, an ONNX file and its check: states of every stage, over many chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.errors import InputError, RecipeError
from shrinkspeech.export import chunks as chunks_module
from shrinkspeech.export.check import check
from shrinkspeech.export.chunks import chunk_difference
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.streams import Stream, faults, said_streams
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.intake import Intake
from shrinkspeech.fitting.report import Fitted
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.start import started
from shrinkspeech.loading.load import load
from tests.command import refused, run
from tests.streaming import Caches, GruVad

SECONDS = 0.09


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        x = torch.randn(4, 9, 12, generator=generator)
        yield x, (x[..., 3] > 0).float()


def loss(outputs: Any, item: Any) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs[0], item[1])


def evaluate(model: nn.Module) -> dict[str, float]:
    """Two chunks, the second with the state that the first has left; the state at the start may be left out."""
    x, _ = next(batches())
    with torch.no_grad():
        scores, state = model(x)
    return {"width": state.shape[-1], "score": float(scores.mean())}


RECIPE = SimpleNamespace(train_batches=batches, loss=loss, evaluate=evaluate, __name__="streaming")


@pytest.fixture(scope="module")
def original() -> Captured:
    return capture(GruVad(), (torch.randn(4, 9, 12), torch.zeros(1, 4, 10)))


@pytest.fixture(scope="module")
def fitted(original: Captured) -> Fitted:
    return fit(original, RECIPE, "40%", steps=12, seconds=SECONDS)


@pytest.fixture(scope="module")
def file(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streaming") / "small.onnx"
    export_onnx(fitted.captured, path, seconds=SECONDS, original_states={"h": (1, 4, 10)})
    return path


def test_a_fit_narrows_the_state(original: Captured, fitted: Fitted) -> None:
    [state] = fitted.report.states
    assert (state.input, state.output, state.original) == ("h", "output_1", (1, 4, 10))
    assert state.shape == (1, 4, fitted.widths["gru"])
    assert state.shape[-1] < 10
    assert fitted.report.flops <= 0.4 * fitted.report.original_flops
    assert fitted.captured.states == original.states
    assert not fitted.captured.started
    assert fitted.report.metrics_before["width"] == 10
    assert fitted.report.metrics_after["width"] == state.shape[-1]


def test_a_batch_may_hold_states_that_are_zero(original: Captured) -> None:
    x, intake = torch.randn(4, 9, 12), Intake(started(original), "mine")
    [alone] = intake((x, torch.zeros(1, 4, 10)))
    assert alone is x
    with pytest.raises(RecipeError, match="its state 'h' is not zero, and a fit starts from zeros: let inputs"):
        intake((x, torch.ones(1, 4, 10)))


def test_the_distance_to_the_original_leaves_states_out(original: Captured) -> None:
    """Without labels the outputs alone are followed: states of other widths cannot be compared."""
    recipe = SimpleNamespace(train_batches=batches, loss=lambda outputs, item: outputs[0].square().mean(), __name__="r")
    small = fit(original, recipe, "50%", steps=4, seconds=SECONDS)
    assert small.report.states[0].shape[-1] < 10


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_file_says_its_states(file: Path, fitted: Fitted) -> None:
    width = fitted.widths["gru"]
    [stream] = said_streams(OnnxFile.read(file))
    assert stream == Stream("h", "output_1", (1, 4, width), (1, 4, 10))
    assert str(stream) == f"h 1×4×{width} (was 1×4×10), which comes back as output_1"
    fixed = OnnxFile.read(file).fixed_sizes[1]
    assert fixed == {0: 1, 2: width}, "the batch alone is dynamic"


def test_check_compares_ten_seconds_in_chunks_with_the_whole(file: Path, fitted: Fitted) -> None:
    rows = {row.name: row for row in check(file, reference=fitted.captured).rows}
    row = rows["difference over 10.08 s in 112 chunks from the whole"]
    assert row.met
    assert 0 < row.measured < 1e-4
    assert rows["faults in states"].met
    assert "h 1×4×" in rows["faults in states"].note


def test_chunks_whose_states_do_not_go_round_are_noticed(file: Path, fitted: Fitted, monkeypatch: Any) -> None:
    """The comparison is one of states: without them it is not met."""
    monkeypatch.setattr(chunks_module, "in_onnxruntime", _forgetful)
    read = OnnxFile.read(file)
    found = chunk_difference(fitted.captured, read, said_streams(read), SECONDS)
    assert found.whole
    assert found.difference > 1e-3


def _forgetful(captured: Captured, file: OnnxFile, streams: Any, pieces: Any) -> Any:
    return [chunks_module.in_torch(captured, [piece])[0] for piece in pieces]


def test_what_is_not_causal_is_compared_in_chunks(tmp_path: Path) -> None:
    class Centred(GruVad):
        """The mean of a chunk is taken away: the whole has another."""

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x - x.mean(1, keepdim=True), h)

    captured = capture(Centred(), (torch.randn(2, 9, 12), torch.zeros(1, 2, 10)))
    export_onnx(captured, tmp_path / "m.onnx", seconds=1.0)
    rows = check(tmp_path / "m.onnx", reference=captured).rows
    [row] = [row for row in rows if "chunks" in row.name]
    assert row.name == "difference over 10 s in 10 chunks from torch in chunks"
    assert row.met
    assert (
        "not compared with the whole: the original itself makes something else of the whole than of chunks" in row.note
    )


def test_caches_of_convolutions_go_round_too(tmp_path: Path) -> None:
    captured = capture(Caches(), (torch.randn(2, 6, 7), [torch.zeros(2, 8, 2), torch.zeros(2, 7, 1)]))
    export_onnx(captured, tmp_path / "m.onnx", seconds=1.0)
    rows = check(tmp_path / "m.onnx", reference=captured).rows
    [row] = [row for row in rows if "chunks" in row.name]
    assert row.name.endswith("from the whole")
    assert row.met


# ------------------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"input": "g"}, "there is no input 'g'"),
        ({"output": "g"}, "there is no output 'g'"),
        ({"shape": (1, 4, 99)}, "in the graph, and 1×4×99 in the metadata"),
        ({"shape": (4, 99)}, "in the graph, and 4×99 in the metadata"),
    ],
)
def test_states_that_do_not_fit_the_graph_are_faults(file: Path, change: Any, fault: str) -> None:
    read = OnnxFile.read(file)
    [stream] = said_streams(read)
    assert faults(read, [stream]) == []
    assert any(fault in found for found in faults(read, [replace(stream, **change)]))


def test_one_state_twice_is_a_fault(file: Path) -> None:
    read = OnnxFile.read(file)
    assert "'h' is in two states" in faults(read, [*said_streams(read)] * 2)


@pytest.mark.parametrize("entry", ["nonsense", "[1]", '[{"input": "h"}]', '{"a": 1}'])
def test_metadata_that_cannot_be_read_is_refused(file: Path, entry: str) -> None:
    proto = onnx.load(str(file))
    for item in proto.metadata_props:
        if item.key == "states":
            item.value = entry
    with pytest.raises(InputError, match="is no list of states"):
        said_streams(OnnxFile.of(proto))


def test_a_file_with_other_states_than_the_reference_is_refused(file: Path, original: Captured) -> None:
    other = replace(original, states=())
    [row] = [row for row in check(file, reference=other).rows if row.name == "difference in chunks"]
    assert not row.met
    assert "the states in the file's metadata are not those of the reference" in row.note


# ----------------------------------------------------------------------------------------------------- by command


MODEL = ["tests/streaming.py:GruVad", "--example", "4x9x12", "--example", "1x4x10", "--seconds", str(SECONDS)]


def test_inspect_names_the_states(capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run(["inspect", *MODEL], capsys)
    assert "h (1×4×10) comes back as output_1: narrower with gru" in text
    _, text, _ = run(["inspect", *MODEL, "--state", "h:output_1", "--json"], capsys)
    assert json.loads(text)["states"] == [
        {"input": "h", "output": "output_1", "shape": [1, 4, 10], "shrinks_with": ["gru"]}
    ]


def test_a_state_that_is_none_is_refused_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no output 'y', the model has output_0, output_1" in refused(
        ["inspect", *MODEL, "--state", "h:y"], capsys
    )


def test_export_says_them(fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitted.save(tmp_path / "run")
    assert load(tmp_path / "run" / "model.pt2").states == fitted.captured.states
    _, text, _ = run(["export", tmp_path / "run", "-o", tmp_path / "m.onnx"], capsys)
    width = fitted.widths["gru"]
    assert f"state h 1×4×{width} (was 1×4×10), which comes back as output_1; it starts from zeros" in text
    assert said_streams(OnnxFile.read(tmp_path / "m.onnx"))[0].original == (1, 4, 10)


def test_check_of_a_run(
    fitted: Fitted, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    fitted.save(tmp_path / "run")
    code, text, _ = run(["check", file, "--reference", tmp_path / "run"], capsys)
    assert code == 0
    assert "difference over 10.08 s in 112 chunks" in text


class Remembering(nn.Module):
    """``[B, T, 6]`` and a state ``[1, B, 5]`` → the next state, and nothing else."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.gru = nn.GRU(6, 5, batch_first=True)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.gru(x, h)[1]


def test_states_are_compared_where_there_is_nothing_else(tmp_path: Path) -> None:
    example = (torch.randn(2, 9, 6), torch.zeros(1, 2, 5))
    one, other = (capture(Remembering(seed).eval(), example, states=["h:output"]) for seed in (0, 1))
    assert one.states
    export_onnx(one, tmp_path / "one.onnx", seconds=SECONDS)
    file = OnnxFile.read(tmp_path / "one.onnx")
    assert chunk_difference(one, file, said_streams(file), SECONDS).difference <= 1e-5
    assert chunk_difference(other, file, said_streams(file), SECONDS).difference > 0.1
