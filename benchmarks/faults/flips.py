"""Single bits that are flipped in six kinds of file, and whether that is noticed where the file is used."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.faults.files import stopped
from benchmarks.faults.rows import Row
from benchmarks.faults.subject import Subject, flipped
from shrinkspeech.data.fingerprint import fingerprint
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import open_source
from shrinkspeech.errors import ShrinkSpeechError
from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.onnx_seal import is_altered
from shrinkspeech.fitting.checkpoint import Checkpoint
from shrinkspeech.loading.load import load
from shrinkspeech.loading.sums import verify

KIND = "Flipped bits"


def _noticed(use: Callable[[], object]) -> str:
    """Empty if the file is taken as it is; an error that is no sentence of ours begins with a question mark."""
    try:
        use()
    except ShrinkSpeechError as error:
        return str(error)
    except Exception as error:
        return f"? {type(error).__name__}: {error}"
    return ""


def _row(name: str, place: str, file: Path, use: Callable[[], object], dice: random.Random, number: int) -> Row:
    data = file.read_bytes()
    assert not _noticed(use), _noticed(use)
    found = []
    for _ in range(number):
        file.write_bytes(flipped(data, dice))
        found.append(_noticed(use))
    file.write_bytes(data)
    silent, rude = found.count(""), sum(text.startswith("? ") for text in found)
    happened = f"{number - silent} noticed, {silent} silent, {rude} without a sentence"
    return Row(KIND, f"{number} bits of {name}", f"{place}: {happened}", good=silent == rude == 0)


def rows(folder: Path, dice: random.Random, number: int) -> Iterator[Row]:
    subject = Subject(folder)
    assert subject.command(subject.arguments(steps=8)).code == 0
    assert subject.command(["export", "run", "-o", "small.onnx"]).code == 0
    run, alone = subject.run, subject.folder / "alone.pt2"
    shutil.copy(run / "model.pt2", alone)
    yield _row("a .pt2, away from its run", "loading", alone, lambda: load(alone), dice, number)
    for name in ("model.safetensors", "report.json", "SHA256SUMS"):
        yield _row(
            f"{name} of a run",
            "export and check --reference",
            run / name,
            lambda: verify(run, ["model.pt2"]),
            dice,
            number,
        )
    onnx = subject.folder / "small.onnx"

    def check() -> None:
        file = OnnxFile.read(onnx)
        if is_altered(file.data, file.metadata):
            raise ShrinkSpeechError("altered")

    yield _row("an exported ONNX file", "check", onnx, check, dice, number)
    halted = stopped(folder / "halted")
    state = halted.run / "checkpoint.pt"
    (halted.run / "checkpoint.pt.previous").unlink()
    known = _identity(state)
    yield _row("a state", "resuming", state, lambda: Checkpoint(state, identity=known, resume=True), dice, number)
    yield from _data(folder / "data", dice, number)


def _identity(state: Path) -> dict[str, object]:
    import torch

    return dict(torch.load(state, weights_only=True)["identity"])


def _data(folder: Path, dice: random.Random, number: int) -> Iterator[Row]:
    """Clips and their list: whether a fit that goes on sees that they are others."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in range(8):
        soundfile.write(folder / f"{clip}.wav", 0.1 * np.random.default_rng(clip).standard_normal(1600), 16_000)
    manifest = folder / "clips.csv"
    manifest.write_text(
        "path,label,split,note\n"
        + "".join(f"{clip}.wav,{'ab'[clip % 2]},{'train' if clip < 6 else 'val'},-\n" for clip in range(8))
    )

    def seen() -> str:
        return fingerprint(open_source(DataOptions(manifest, workers=0), "class", 800))

    before = seen()

    def compare() -> None:
        if seen() != before:
            raise ShrinkSpeechError("other data")

    yield _row("a clip (WAV)", "resuming", folder / "1.wav", compare, dice, number)
    yield _row("a manifest (CSV)", "resuming", manifest, compare, dice, number)
