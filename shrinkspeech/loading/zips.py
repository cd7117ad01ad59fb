"""Whether a file of a model is whole, before torch reads it: torch does not look at the sums that its zip archives carry."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from shrinkspeech.errors import LoadError
from shrinkspeech.files import seal_of
from shrinkspeech.loading.sums import verify_file

FACTOR, ROOM = 4, 64 << 20
"""An archive may unpack to at most this many times its size, and this many bytes beside: torch itself compresses nothing."""

_PIECE = 1 << 20


def refuse_damaged(path: Path) -> None:
    """Refuse a file that is not what its run wrote, and an archive that is not what it says of itself.

    Raises:
        LoadError: why.
    """
    verify_file(path)
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip and (fault := fault_of(path)):
        raise LoadError(f"{path} {fault}")


def refuse_swollen(path: Path, tensors: Iterable[Any]) -> None:
    """Refuse tensors that are far larger than the file that they come from, as views that repeat one element are.

    Raises:
        LoadError: they are.
    """
    size, most = sum(x.numel() * x.element_size() for x in tensors if isinstance(x, Tensor)), _most_bytes(path)
    if size > most:
        raise LoadError(
            f"{path} holds tensors of {size:,} bytes, where at most {most:,} are taken: save them with clone()"
        )


def fault_of(path: Path) -> str:
    """What is wrong with an archive, as the end of a sentence that begins with its name; empty where nothing is.

    A seal of our own is compared, else the CRC of every member. Nothing is unpacked that is larger than it says, or whose
    sizes together are beyond ``FACTOR`` and ``ROOM``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            promised, most = sum(member.file_size for member in members), _most_bytes(path)
            if promised > most:
                return f"unpacks to {promised:,} bytes, where at most {most:,} are taken: save it again with torch"
            state = seal_of(path)
            if state == "none":
                _read_all(archive)
        return "is damaged, as its sum differs: copy or save it again" if state == "broken" else ""
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        reason = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        return f"is damaged or cut off: copy or save it again ({reason[:80]})"


def _read_all(archive: zipfile.ZipFile) -> None:
    """Read every member to its end, where ``zipfile`` compares its CRC.

    Raises:
        zipfile.BadZipFile: one differs.
    """
    for member in archive.infolist():
        with archive.open(member) as file:
            while file.read(_PIECE):
                pass


def _most_bytes(path: Path) -> int:
    return FACTOR * path.stat().st_size + ROOM
