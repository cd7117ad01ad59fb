"""``SHA256SUMS`` of a run folder: what the run wrote, and whether it still is that. ``sha256sum -c`` reads it too.

It is written last, so that a folder without it is of a fit that has not ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from shrinkspeech.errors import LoadError
from shrinkspeech.files import replacing, sha256_of

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ((?!\.\.?/)[^/\\\x00-\x1f]+(?:/(?!\.\.?(?:/|$))[^/\\\x00-\x1f]+)*)")
"""A sum and a path below the folder."""


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the sums of files in a folder."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)]
    with replacing(folder / SUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> Mapping[str, str]:
    """The sum of each file that the run wrote, by its name.

    Raises:
        LoadError: there are none, or they are damaged.
    """
    file = folder / SUMS
    if not file.is_file():
        raise LoadError(
            f"there is no {file}, with which a fit ends: give the same 'fit' again to go on, or name the file itself, such as "
            f"{folder / 'model.pt2'}"
        )
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise LoadError(f"{file} is damaged: copy the whole run again") from error
    found = [_LINE.fullmatch(line) for line in text.removesuffix("\n").split("\n")]
    names = [line[2] for line in found if line]
    if not text.endswith("\n") or not all(found) or names != sorted(set(names)):
        raise LoadError(f"{file} is damaged: copy the whole run again")
    return {line[2]: line[1] for line in found if line}


def verify(folder: Path, needed: Iterable[str] = ()) -> None:
    """Refuse a run that is not what its fit wrote.

    Args:
        needed: files that must be among those with a sum.

    Raises:
        LoadError: a file is missing or differs; the message names all of them.
    """
    sums = read_sums(folder)
    differ = [name for name, value in sums.items() if _differs(folder / name, value)]
    unknown = [name for name in needed if name not in sums]
    if differ or unknown:
        raise LoadError(
            f"in {folder} {', '.join(differ + unknown)} {'is' if len(differ + unknown) == 1 else 'are'} not what the fit "
            f"wrote: copy the run again, or take a file as it is by its own name, away from {SUMS}"
        )


def verify_file(path: Path) -> None:
    """Refuse a file that has a sum beside it and is not what that says; another file is nobody's.

    Raises:
        LoadError: it differs, or the sums are damaged.
    """
    if (path.parent / SUMS).is_file():
        known = read_sums(path.parent).get(path.name)
        if known is not None and _differs(path, known):
            raise LoadError(
                f"{path} is not what the fit wrote, as {SUMS} beside it says: copy it again, or take it as it is from "
                "another folder"
            )


def remove_stale(folder: Path, earlier: Mapping[str, str], kept: Iterable[str]) -> None:
    """Delete what an earlier run wrote here and this one did not, if nobody has changed it since."""
    for name in earlier.keys() - set(kept):
        if not _differs(folder / name, earlier[name]):
            (folder / name).unlink()


def _differs(path: Path, value: str) -> bool:
    return not path.is_file() or sha256_of(path) != value
