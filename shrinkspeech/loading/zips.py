"""Whether a zip archive (``.pt2``, and what ``torch.save`` writes) is whole, before torch reads it: torch does not look at its sums."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from shrinkspeech.files import seal_of

FACTOR, ROOM = 4, 64 << 20
"""An archive may unpack to at most this many times its size, and this many bytes beside: torch itself compresses nothing."""

_PIECE = 1 << 20


def fault_of(path: Path) -> str:
    """What is wrong with an archive, as the end of a sentence that begins with its name; empty where nothing is.

    A seal of our own is compared, else the CRC of every member. Nothing is unpacked that is larger than it says, or whose
    sizes together are beyond ``FACTOR`` and ``ROOM``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            promised, most = sum(member.file_size for member in members), FACTOR * path.stat().st_size + ROOM
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


def most_bytes(path: Path) -> int:
    """Bytes that the tensors of a file may come to, views that repeat their elements included."""
    return FACTOR * path.stat().st_size + ROOM
