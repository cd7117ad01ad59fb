"""What is fuzzed: seeds that ``seed`` writes once, and for each kind one random input, tried by the part that reads it."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import nn

from benchmarks.fuzz import mutate
from shrinkspeech.loading.sums import SUMS, read_sums, write_sums

NET = '''
import torch
from torch import nn

class Net(nn.Module):
    """[B, samples] -> [B, 2]"""
    def __init__(self):
        super().__init__()
        self.inside, self.out = nn.Conv1d(1, 8, 9, stride=4), nn.Linear(8, 2)
    def forward(self, x):
        return self.out(torch.relu(self.inside(x[:, None])).mean(2))
'''
MODEL = ["weights.pt", "--factory", "net.py:Net", "--example", "2x800"]
FIT = ["--target-flops", "50%", "--steps", "3", "--batch-size", "2"]


def seed(folder: Path) -> None:
    """Write what is changed later: audio, a manifest, weights, a program, a run, an ONNX file."""
    (folder / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir()
    rows = ["audio_filepath,label,split"]
    for number in range(8):
        name = f"audio/{number}.{'flac' if number % 2 else 'wav'}"
        sf.write(folder / name, rng.normal(0, 0.1, 1600), 16_000)
        rows.append(f"{name},{'ab'[number % 2]},{'val' if number > 5 else 'train'}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    net = _net(folder)
    torch.save({"model": net.state_dict(), "epoch": 3}, folder / "weights.pt")
    program = torch.export.export(net, (torch.zeros(2, 800),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, folder / "model.pt2")
    _command("fit", *MODEL, *FIT, "--audio", "audio", "--checkpoint", "state.pt", "-o", "run")
    _command("export", "run", "-o", "model.onnx")


def _net(folder: Path) -> nn.Module:
    sys.path.insert(0, str(folder))
    from net import Net  # type: ignore[import-not-found]

    torch.manual_seed(0)
    net: nn.Module = Net().eval()
    return net


def _command(*arguments: str) -> None:
    from shrinkspeech_cli.main import main

    try:
        main(["--debug", *arguments])
    except SystemExit as error:
        if error.code:
            raise


def _changed(choose: random.Random, source: str, change: Callable[[random.Random, bytes], bytes]) -> str:
    path = Path(f"changed{Path(source).suffix}")
    path.write_bytes(change(choose, Path(source).read_bytes()))
    return str(path)


def program(choose: random.Random) -> None:
    """An exported program, inspected."""
    _command("inspect", _changed(choose, "model.pt2", mutate.zip_of), "--seconds", "1")


def weights(choose: random.Random) -> None:
    """Weights for a factory, inspected."""
    _command("inspect", _changed(choose, "weights.pt", mutate.zip_of), *MODEL[1:])


def onnx_file(choose: random.Random) -> None:
    """An ONNX file, checked."""
    changed = _changed(choose, "model.onnx", mutate.onnx_of)
    sealed = [] if choose.random() < 0.1 else ["--altered"]  # else no file gets beyond its seal
    _command("check", changed, "--max-flops", "1M", "--max-latency", "1s", *sealed)


def run_folder(choose: random.Random) -> None:
    """A run with one of its files changed, exported."""
    folder = Path("changed_run")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("run", folder)
    file = choose.choice(sorted(folder.iterdir()))
    change = mutate.json_of if file.suffix == ".json" else mutate.zip_of if file.suffix == ".pt2" else mutate.bytes_of
    file.write_bytes(change(choose, file.read_bytes()))
    if choose.random() < 0.8 and file.name != SUMS:  # else no file gets beyond the sums
        write_sums(folder, read_sums(folder))
    _command("export", str(folder), "-o", "changed.onnx")


def manifest(choose: random.Random) -> None:
    """A manifest, opened for classes."""
    _open(_changed(choose, "clips.csv", mutate.table_of))


def audio(choose: random.Random) -> None:
    """A clip, opened and read."""
    for number in range(8):
        name = f"{number}.{'flac' if number % 2 else 'wav'}"
        data = Path("audio", name).read_bytes()
        Path("changed_audio").mkdir(exist_ok=True)
        Path("changed_audio", name).write_bytes(mutate.bytes_of(choose, data) if number < 2 else data)
    Path("changed_audio.csv").write_text(Path("clips.csv").read_text().replace("audio/", "changed_audio/"))
    _open("changed_audio.csv")


def _open(path: str) -> None:
    from shrinkspeech.data.options import DataOptions
    from shrinkspeech.data.source import open_source

    source = open_source(DataOptions(Path(path), batch_size=2, workers=0), "class", 800)
    assert next(source.train(0)).x.shape == (2, 800)


OPTIONS = {
    "inspect": "example seconds sample-rate only exclude min-width json factory weights",
    "check": "max-flops max-params max-size max-latency seconds batch feed threads timeout",
    "fit": "target-flops target-params target-size target-memory steps learning-rate seed round-to distil min-width only "
    "exclude batch-size crop task data val label-column labels where pad snr features masks val-fraction set",
}
TEXTS = """0 1 -1 2 1e9 nan inf 1e400 25% 101% -5% 600k 1.2M 5us 64kB 2x800 0x800 2x-1 1x1 x 800 lengths=2:int64 * inside label
a,b label=a = 0:5 clips.csv audio run model.onnx weights.pt net.py /dev/null nowhere classify vad é"""
VALUES = (*TEXTS.split(), "", " ", str(2**40), str(2**70), "a" * 300)
BASES = {
    "inspect": MODEL,
    "check": ["model.onnx"],
    "fit": [*MODEL, *FIT, "--audio", "audio", "-o", "out", "--overwrite"],
}


def options(choose: random.Random) -> None:
    """A command with up to four options of random values."""
    name = choose.choice([*OPTIONS])
    chosen = choose.sample(OPTIONS[name].split(), choose.randrange(1, 5))
    more = [[f"--{option}", *([] if option == "json" else [choose.choice(VALUES)])] for option in chosen]
    _command(name, *BASES[name], *(part for parts in more for part in parts))


KINDS: dict[str, Callable[[random.Random], None]] = {
    "exported program": program,
    "weights": weights,
    "ONNX file": onnx_file,
    "run folder": run_folder,
    "manifest": manifest,
    "audio": audio,
    "options": options,
}
