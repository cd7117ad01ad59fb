"""An environment of the command's own: the models' packages beside this project's torch, which stays as it is."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.trained.table import MODELS

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".trained"
"""What the command keeps: its environment, runs and logs. Nothing of it is committed."""

BESIDE = ("torchaudio", "torchfcpe==0.0.4", "nnAudio", "webrtcvad", "setuptools<81", "librosa", "loguru", "pandas")
"""What packages and repositories import: pip brings what these need."""


def python() -> Path:
    """The interpreter that runs the models."""
    return HOME / "venv" / "bin" / "python"


def packages() -> Path:
    """The folder in which the models' packages lie."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return HOME / "venv" / "lib" / version / "site-packages"


def command() -> Path:
    """The command line tool, installed there as a user installs it."""
    return HOME / "venv" / "bin" / "shrinkspeech"


def prepare() -> None:
    """Make the environment unless it is there.

    Raises:
        CalledProcessError: pip cannot install something.
    """
    ready = HOME / "venv" / ".ready"
    if ready.is_file() and ready.read_text() == _wanted():
        return
    HOME.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", HOME / "venv"], check=True)
    # nested .pth files, such as those of an editable installation, are read by addsitedir alone
    there = sysconfig.get_paths()["purelib"]
    (packages() / "project.pth").write_text(f"import site; site.addsitedir({there!r})\n")
    own = [model.source for model in MODELS if model.is_package]
    _pip("install", *BESIDE)
    _pip("install", "--no-deps", *dict.fromkeys(own))  # some pin a torch, or ask for a player of audio
    _pip("install", "--upgrade", "omegaconf", "resampy", "tqdm", "scipy")
    _pip("install", "--no-deps", "--editable", ROOT)
    # compiled for another build of torch; none of the models needs what is in it
    for library in (packages() / "torchaudio" / "lib").glob("*.so"):
        library.unlink()
    ready.write_text(_wanted())


def _wanted() -> str:
    return "\n".join([*BESIDE, *(model.source for model in MODELS if model.is_package)])


def _pip(*arguments: object) -> None:
    subprocess.run([python(), "-m", "pip", "--quiet", *map(str, arguments)], check=True)
