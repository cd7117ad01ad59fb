"""Files that are written whole or not at all, and that tell whether they still are what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.\d+\.tmp")
"""Names of files that are being written: short, whatever the final name is, so that it may be as long as the system allows."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the place of ``path`` when the block ends without an error.

    What a link points to is replaced, not the link. The bytes are on the disk before the name is.

    Raises:
        OSError: it cannot be written, or is there and no plain file.
    """
    final = Path(path).resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists() and not final.is_file():
        kind = "a folder" if final.is_dir() else "a device" if _is_device(final) else "no plain file"
        raise OSError(errno.EINVAL, f"it is {kind}, give a file", str(path))
    digest = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]
    temporary = final.with_name(f".{digest}.{os.getpid()}.tmp")
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    mode = path.stat().st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: str | Path) -> str:
    """The SHA-256 sum of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------------------------- seals

SEAL = b"sha256:"
_SEALED = len(SEAL) + 64


def seal(path: str | Path) -> None:
    """Close a zip archive with its own SHA-256 sum, as the comment that the format has room for: any flipped bit is noticed.

    What reads such archives goes on as before. The sum is that of the file before, which says that it has no comment.
    """
    digest = sha256_of(path)
    with Path(path).open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        if file.read() != b"\0\0":
            raise ValueError(f"{path} is no zip archive without a comment")
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", _SEALED) + SEAL + digest.encode())


def seal_of(path: str | Path) -> str:
    """``whole`` or ``broken`` of an archive with a seal; ``none`` of another without a comment, ``broken`` with one."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SEALED - 2))
        tail = file.read()
        found = re.fullmatch(struct.pack("<H", _SEALED) + SEAL + rb"([0-9a-f]{64})", tail, re.DOTALL)
        if found is None:
            return "none" if tail.endswith(b"\0\0") and b"PK\5\6" in tail[-22:-18] else "broken"
        file.seek(0)
        digest, left = hashlib.sha256(), size - len(tail)
        while left:
            piece = file.read(min(left, 1 << 20))
            digest.update(piece)
            left -= len(piece)
        digest.update(b"\0\0")
    return "whole" if digest.hexdigest() == found[1].decode() else "broken"
