"""Damage is noticed: flipped bits in every kind of file, archives that promise too much, JSON that no fit writes."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from shrinkspeech_cli.main import main
from torch import nn

import shrinkspeech
from shrinkspeech.errors import InputError, LoadError, ShrinkSpeechError
from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.export.onnx_seal import is_altered, sealed
from shrinkspeech.files import seal_of
from shrinkspeech.fitting.checkpoint import Checkpoint, read_checkpoint
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.loading import zips
from shrinkspeech.loading.load import load
from shrinkspeech.loading.records import Origin, Report, Task, Widths, read_record
from shrinkspeech.loading.sums import SUMS, read_sums, verify
from shrinkspeech.loading.zips import fault_of

FLIPS = 40
RUN_FILES = [SUMS, "model.pt2", "model.safetensors", "report.json", "widths.json"]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, with the checkpoint, the ONNX file and the user's own ``.pt2`` and weights in the folder above it."""
    folder = tmp_path_factory.mktemp("damage") / "run"
    captured = shrinkspeech.capture(net(), (torch.randn(4, 6),))
    recipe = Recipe(lambda: [torch.randn(4, 6)] * 3, lambda out, x: out.square().mean(), inputs=lambda x: (x,))
    fitted = fit(captured, recipe, "50%", steps=4, checkpoint=folder.parent / "checkpoint.pt")
    fitted.save(folder)
    export_onnx(fitted.captured, folder.parent / "model.onnx")
    torch.export.save(torch.export.export(net(), (torch.randn(4, 6),)), folder.parent / "own.pt2")
    torch.save(net().state_dict(), folder.parent / "own.pt")
    return folder


def flipped(data: bytes, seed: int) -> bytes:
    """One bit is another."""
    place = random.Random(seed).randrange(8 * len(data))
    found = bytearray(data)
    found[place // 8] ^= 1 << place % 8
    return bytes(found)


@pytest.mark.parametrize("name", RUN_FILES)
def test_any_flipped_bit_of_a_run_is_noticed(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    verify(tmp_path / "run", ["model.pt2"])
    for seed in range(FLIPS):
        (tmp_path / "run" / name).write_bytes(flipped((run / name).read_bytes(), seed))
        with pytest.raises(LoadError, match=r"not what the fit wrote: copy the run again|is damaged: copy"):
            verify(tmp_path / "run", ["model.pt2"])


@pytest.mark.parametrize("name", ["model.pt2", "model.safetensors"])
def test_a_model_that_lies_beside_its_sums_is_compared(run: Path, tmp_path: Path, name: str) -> None:
    """Wherever it is used, though its own format would not notice."""
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(LoadError, match=f"{name} is not what the fit wrote, as SHA256SUMS beside it says"):
        load(file, factory="nowhere:f" if name.endswith("s") else None)


def test_a_program_that_was_saved_here_is_sealed(run: Path, tmp_path: Path) -> None:
    """Also away from its run: also in what fills the archive up."""
    data, file = (run / "model.pt2").read_bytes(), tmp_path / "model.pt2"
    file.write_bytes(data)
    load(file)
    for seed in range(FLIPS):
        file.write_bytes(flipped(data, seed))
        with pytest.raises(LoadError):
            load(file)


def test_a_checkpoint_is_sealed(run: Path, tmp_path: Path) -> None:
    data, file = (run.parent / "checkpoint.pt").read_bytes(), tmp_path / "c.pt"
    assert read_checkpoint(run.parent / "checkpoint.pt") is not None
    for seed in range(FLIPS):
        file.write_bytes(flipped(data, seed))
        assert read_checkpoint(file) is None
    with pytest.raises(InputError, match="is not a checkpoint of a fit, or damaged"):
        Checkpoint(file, resume=True)


@pytest.mark.parametrize("name", ["own.pt2", "own.pt"])
def test_members_of_others_archives_are_compared_with_their_crc(run: Path, tmp_path: Path, name: str) -> None:
    """Of a file that torch wrote, one bit of every member."""
    data, file = (run.parent / name).read_bytes(), tmp_path / name
    with zipfile.ZipFile(run.parent / name) as archive:
        members = [(archive.read(member), member.filename) for member in archive.infolist() if member.file_size]
    assert fault_of(run.parent / name) == ""
    assert seal_of(run.parent / name) == "none"
    for content, _ in members:
        place = data.rindex(content) + len(content) // 2
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(LoadError, match="is damaged or cut off: copy or save it again"):
            load(file, factory=None)


def test_any_flipped_bit_of_an_onnx_file_is_noticed(run: Path) -> None:
    """Where it still is one: others are refused as none."""
    data, readable = (run.parent / "model.onnx").read_bytes(), 0
    assert not is_altered(data, entries(data))
    for seed in range(5 * FLIPS):
        found = flipped(data, seed)
        try:
            metadata = entries(found)
        except Exception:  # protobuf
            continue
        readable += 1
        assert is_altered(found, metadata)
    assert readable > FLIPS


def entries(data: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}


def test_check_refuses_an_altered_file_unless_it_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(str(run.parent / "model.onnx"))
    model.graph.doc_string = "by another program"
    onnx.save(model, str(tmp_path / "m.onnx"))
    code, err = command(["check", str(tmp_path / "m.onnx")], capsys)
    assert code == 2
    assert "is damaged, or another program has altered it" in err
    assert command(["check", str(tmp_path / "m.onnx"), "--altered"], capsys)[0] == 0
    assert command(["check", str(run.parent / "model.onnx")], capsys)[0] == 0
    (tmp_path / "stranger.onnx").write_bytes(strange(model))
    assert command(["check", str(tmp_path / "stranger.onnx")], capsys)[0] == 0
    assert not is_altered(sealed(strange(model)), entries(sealed(strange(model))))


def strange(model: onnx.ModelProto) -> bytes:
    """The model without a word of who wrote it."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    del other.metadata_props[:]
    return other.SerializeToString()


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err


def test_export_and_check_look_at_the_sums(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, tmp_path / "run")
    text = (tmp_path / "run" / "report.json").read_text()
    (tmp_path / "run" / "report.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    said = f"in {tmp_path / 'run'} report.json is not what the fit wrote: copy the run again"
    code, err = command(["export", str(tmp_path / "run"), "-o", str(tmp_path / "m.onnx")], capsys)
    assert (code, said in err) == (2, True)
    code, err = command(["check", str(run.parent / "model.onnx"), "--reference", str(tmp_path / "run")], capsys)
    assert (code, said in err) == (2, True)
    (tmp_path / "run" / SUMS).unlink()
    code, err = command(["export", str(tmp_path / "run"), "-o", str(tmp_path / "m.onnx")], capsys)
    assert (code, "SHA256SUMS, with which a fit ends: give the same 'fit' again" in err) == (2, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text.rstrip("\n"),
        lambda text: text + text,
        lambda text: text.upper(),
        lambda text: text.replace("  ", " "),
        lambda text: text.replace("model.pt2", "../model.pt2"),
        lambda text: "\n".join(reversed(text.splitlines())) + "\n",
    ],
)
def test_sums_that_no_fit_writes(run: Path, tmp_path: Path, change: Callable[[str], str]) -> None:
    assert set(read_sums(run)) == set(RUN_FILES) - {SUMS}
    (tmp_path / SUMS).write_text(change((run / SUMS).read_text()))
    with pytest.raises(LoadError, match="is damaged: copy the whole run again"):
        read_sums(tmp_path)


# ---------------------------------------------------------------------------------------------------------- sizes


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "ROOM", 1 << 16)
    for size, expected in ((1 << 16, ""), (1 << 20, "unpacks to 1,048,585 bytes, where at most")):
        with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("m/data.pkl", bytes(size))
            archive.writestr("m/version", b"3\n" if size == 1 << 16 else b"123456789")
        found = fault_of(tmp_path / "m.pt")
        assert found.startswith(expected) if expected else found == ""


def test_tensors_that_are_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    """One number, repeated: 16 GB that ``load_state_dict`` would write out."""
    torch.save({"weight": torch.zeros(1).expand(1 << 32)}, tmp_path / "m.pt")
    with pytest.raises(LoadError, match=r"holds tensors of 17,179,869,184 bytes, where at most 67,\d+,\d+ are taken"):
        load(tmp_path / "m.pt", factory="torch.nn:Identity")


# ---------------------------------------------------------------------------------------------------------- JSON


def edited(run: Path, tmp_path: Path, name: str, edit: Callable[[Any], None]) -> Path:
    value = json.loads((run / name).read_text())
    edit(value)
    (tmp_path / name).write_text(json.dumps(value))
    return tmp_path / name


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda r: r.update(seconds=1e308), "seconds: Input should be less than or equal to 1000000"),
        (lambda r: r.update(seconds="1"), "seconds: Input should be a valid number"),
        (lambda r: r.update(flops=float("nan")), "flops: Input should be a finite number"),
        (lambda r: r.update(steps=1.5), "steps: "),
        (lambda r: r.update(steps=True), "steps: Input should be a valid integer"),
        (lambda r: r.update(params=-1), "params: Input should be greater than or equal to 0"),
        (lambda r: r.update(budget=[]), "budget: "),
        (lambda r: r["budget"].pop("unit"), "budget.unit: Field required"),
        (lambda r: r.pop("flops"), "flops: Field required"),
        (lambda r: r.update(metrics_after={"eer": "low"}), "metrics_after.eer: Input should be a valid number"),
    ],
)
def test_reports_that_no_fit_writes(run: Path, tmp_path: Path, edit: Callable[[Any], None], expected: str) -> None:
    assert read_record(run / "report.json", Report).steps == 4
    with pytest.raises(InputError, match=r"report.json is not what a fit writes \(") as caught:
        read_record(edited(run, tmp_path, "report.json", edit), Report)
    assert expected in str(caught.value)


def test_reports_of_later_versions_may_hold_more(run: Path, tmp_path: Path) -> None:
    file = edited(run, tmp_path, "report.json", lambda r: r.update(later=[1], metrics_before={"eer": float("nan")}))
    assert read_record(file, Report).model_dump()["later"] == [1]


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "{", "", "\x00", '{"a": ' + "[" * 100_000, '{"0": 3}'),
        *('{"0": {"width": 2, "units": [0]}}', '{"0": {"width": 2, "units": [1, 0]}}'),
        *('{"0": {"width": 1, "units": [-1]}}', '{"0": {"width": "1", "units": [0]}}'),
    ],
    ids=range(11),
)
def test_widths_that_no_fit_writes(run: Path, tmp_path: Path, text: str) -> None:
    assert read_record(run / "widths.json", Widths).root.keys() == {"0"}
    (tmp_path / "widths.json").write_text(text)
    with pytest.raises(ShrinkSpeechError, match=r"widths\.json is not what a fit writes"):
        read_record(tmp_path / "widths.json", Widths)


def test_other_records(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    good = {"source": "m.pt2", "factory": None, "sha256": "0" * 64, "budget": "50%", "version": "0"}
    file.write_text(json.dumps(good))
    assert read_record(file, Origin).budget == "50%"
    file.write_text(json.dumps({**good, "sha256": "0" * 63}))
    with pytest.raises(InputError, match="sha256"):
        read_record(file, Origin)
    file.write_text(json.dumps({"task": "vad", "labels": ["a"], "sample_rate": 0, "seconds": 1.0}))
    with pytest.raises(InputError, match="sample_rate: Input should be greater than 0"):
        read_record(file, Task)
