"""What the tests of a file run is found once, and remembered as long as neither they nor the faulty files change.

A change elsewhere could lead a test to other lines: then a fault is shown to fewer tests, and may survive for it, never die.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.reach import Reach


@dataclass(frozen=True)
class Found:
    """What a run of one test file told.

    Attributes:
        marks: of the test file and of every file of the library, as they were, by path below the root.
        modules: what was imported, without our own.
    """

    marks: dict[str, str]
    reach: Reach
    modules: tuple[str, ...]


def mark(root: Path, name: str) -> str:
    """Tells one content of a file from another."""
    path = root / name
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def recall(folder: Path, root: Path, test: str, faulty: Iterable[str]) -> Found | None:
    """What was found for a test file, if it and the files that faults go into are as they were."""
    path = _place(folder, test)
    if not path.is_file():
        return None
    found: Found = pickle.loads(path.read_bytes())
    same = all(found.marks.get(name) == mark(root, name) for name in (test, *faulty))
    return found if same else None


def remember(folder: Path, root: Path, test: str, reach: Reach, modules: tuple[str, ...]) -> Found:
    """Write down what was found."""
    names = [test, *(str(path.relative_to(root)) for path in (root / "shrinkspeech").rglob("*.py"))]
    found = Found({name: mark(root, name) for name in names}, reach, modules)
    folder.mkdir(exist_ok=True)
    _place(folder, test).write_bytes(pickle.dumps(found))
    return found


def _place(folder: Path, test: str) -> Path:
    return folder / f"{Path(test).stem}.pickle"
