"""The house: the folders of the library stand on one another, and imports go down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "shrinkspeech"
FLOORS = "axes rules graph groups surgery export budget loading data fitting tasks".split()
"""From the ground up; ``docs/design.md`` draws the same order. ``errors``, ``files`` and ``defaults`` lie below all of them."""

GROUND = {"errors", "files", "defaults", ""}
"""What any file may import; the empty name is the package itself, which holds the version."""

FILES = sorted(LIBRARY.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Dotted names below ``shrinkspeech`` that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "shrinkspeech":
            module = (node.module or "").removeprefix("shrinkspeech").lstrip(".")
            yield from [module] if module else (name.name if name.name in FLOORS else "" for name in node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("shrinkspeech."):
                    yield name.name.removeprefix("shrinkspeech.")


def floor(name: str) -> int:
    return FLOORS.index(name) if name in FLOORS else -1


def climbs(path: Path, room: str) -> list[str]:
    """Imports of a file in the folder ``room`` that lead to a higher floor."""
    return [name for name in imported(path) if name not in GROUND and floor(name.split(".")[0]) > floor(room)]


def test_every_folder_has_its_floor() -> None:
    assert {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").is_file()} == set(FLOORS)


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != LIBRARY], ids=lambda p: str(p.relative_to(LIBRARY)))
def test_imports_go_down(path: Path) -> None:
    assert climbs(path, path.relative_to(LIBRARY).parts[0]) == []


def test_the_ground_imports_nothing() -> None:
    assert [list(imported(LIBRARY / f"{name}.py")) for name in sorted(GROUND - {""})] == [[], [], []]


def test_a_climb_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from shrinkspeech.tasks.base import Task\n    import shrinkspeech.fitting.fit\n")
    assert climbs(file, "surgery") == ["tasks.base", "fitting.fit"]
    assert climbs(file, "tasks") == []


def test_the_design_draws_the_same_order() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    places = [text.index(f'    {name}["{name}: ') for name in reversed(FLOORS)]
    assert all(above < below for above, below in pairwise(places))


def test_no_file_is_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.glob("*/**/*.py")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_tests_do_not_import_from_each_other() -> None:
    found = {
        path.name: [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith(("from tests.test_", "import tests.test_"))
        ]
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


def arrows_of(path: Path) -> set[str]:
    """The files that a file imports: ``rules.registry``, and ``rules.__init__`` for what the folder itself holds."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shrinkspeech."):
            home = (node.module or "").removeprefix("shrinkspeech.")
            inside = LIBRARY / home.replace(".", "/")
            found |= {f"{home}.{name.name}" if (inside / f"{name.name}.py").is_file() else home for name in node.names}
    return {f"{name}.__init__" if (LIBRARY / name / "__init__.py").is_file() else name for name in found}


def test_files_of_a_folder_import_each_other_without_a_circle() -> None:
    arrows = {
        ".".join(path.relative_to(LIBRARY).with_suffix("").parts): arrows_of(path)
        for path in FILES
        if path.parent != LIBRARY
    }
    done: set[str] = set()
    while ready := {
        name for name, targets in arrows.items() if name not in done and not (targets & arrows.keys()) - done
    }:
        done |= ready
    assert sorted(arrows.keys() - done) == []
