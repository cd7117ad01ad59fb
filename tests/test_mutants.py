"""Mutation testing: which faults are made, which are drawn, and what becomes of them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import report, results
from tests.mutants.make import files_in, mutants, sample
from tests.mutants.memory import recall, remember
from tests.mutants.operators import OPERATORS
from tests.mutants.reach import Reach
from tests.mutants.results import Row
from tests.mutants.run import FOLDERS, ROOT, load_table, near
from tests.mutants.warm import Outcome

LIBRARY = '''"""Words."""

NAMES = ["a", "two words"]


@rule("x")
def larger(x: int | None, y: float = 1.5) -> float:
    """More words."""
    if x > 0 and y in NAMES:
        x += 2
    self.seen.append(x)
    raise ValueError(1) if not x else max(x, y).square()
'''


def changes(source: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for mutant in mutants(source, "x.py"):
        found.setdefault(mutant.kind, []).append(mutant.diff()[-1])
    return found


def test_faults_of_a_file() -> None:
    body = LIBRARY.replace(
        "    raise ValueError(1) if not x else max(x, y).square()\n", "    return max(x, y).square()\n"
    )
    assert changes(body) == {
        "text": ['+ NAMES = ["XXaXX", "two words"]'],
        "number": [
            "+ def larger(x: int | None, y: float = 2.5) -> float:",
            "+ if x > 1 and y in NAMES:",
            "+ x += 3",
        ],
        "negation": ["+ if not (x > 0 and y in NAMES):"],
        "other operator": ["+ if x > 0 or y in NAMES:", "+ if x >= 0 and y in NAMES:", "+ x -= 2"],
        "other keyword": ["+ if x > 0 and y not in NAMES:"],
        "plain assignment": ["+ x = 2"],
        "no statement": ["+ pass", "+ pass"],
        "no call": ["+ return max(x, y)"],
        "other function": ["+ return min(x, y).square()"],
    }


def test_messages_are_left_alone() -> None:
    assert not any("ValueError(2)" in line for lines in changes(LIBRARY).values() for line in lines)


@pytest.mark.parametrize("source", ["f(a, b=1)", "d.get(a, b)", "x.sum(1)"])
def test_an_argument_less(source: str) -> None:
    [line] = changes(f"{source}\n")["fewer arguments"]
    assert line in {"+ f(a, )", "+ d.get(a, )", "+ x.sum()"}


def test_every_fault_is_another_program() -> None:
    path = ROOT / "shrinkspeech" / "fitting" / "controller.py"
    source = path.read_text(encoding="utf-8")
    found = mutants(source, "fitting/controller.py")
    assert len({mutant.key for mutant in found}) == len(found) > 50
    assert {mutant.kind for mutant in found} <= set(OPERATORS)
    for mutant in found[::10]:
        compile(mutant.source, mutant.path, "exec")
        assert mutant.source != source


def test_the_sample_stays_while_the_code_around_it_moves() -> None:
    before = sample(mutants(LIBRARY, "x.py"), 4, 0)
    after = sample(mutants("import os\n\n\n" + LIBRARY, "x.py"), 4, 0)
    assert [mutant.key for mutant in before] == [mutant.key for mutant in after]
    assert [mutant.line + 3 for mutant in before] == [mutant.line for mutant in after]
    assert {mutant.key for mutant in before} < {mutant.key for mutant in sample(mutants(LIBRARY, "x.py"), 8, 0)}
    assert {mutant.key for mutant in before} != {mutant.key for mutant in sample(mutants(LIBRARY, "x.py"), 4, 1)}


def test_every_file_has_tests_near_it() -> None:
    table = load_table()
    for folder in FOLDERS:
        for path in files_in(ROOT / "shrinkspeech", folder):
            assert near(str(path.relative_to(ROOT / "shrinkspeech")), table)
    for part, names in table.items():
        assert (ROOT / "shrinkspeech" / part).exists(), part
        assert [name for name in names if not (ROOT / "tests" / f"{name}.py").is_file()] == []


def test_the_most_specific_line_counts() -> None:
    table = {"a": ["one"], "a/b.py": ["two"]}
    assert near("a/b.py", table) == ["tests/two.py"]
    assert near("a/bc.py", table) == ["tests/one.py"]


def test_tests_that_run_a_line() -> None:
    reach = Reach({"x.py": {3: {"t.py::a", "t.py::b"}, 7: {"u.py"}}}, {"t.py::a": 2.0, "t.py::b": 1.0, "u.py::c": 0.5})
    assert reach.tests("x.py", (1, 4), ["t.py", "u.py"]) == ["t.py::b", "t.py::a"]
    assert reach.tests("x.py", (6, 8), ["t.py", "u.py"]) == ["u.py::c"]
    assert reach.tests("x.py", None, ["t.py"]) == ["t.py::b", "t.py::a"]
    assert reach.tests("y.py", (1, 9), ["t.py"]) == []


def test_what_tests_run_is_remembered_until_they_or_the_faulty_files_change(tmp_path: Path) -> None:
    names = ["tests/test_x.py", "shrinkspeech/x.py", "shrinkspeech/y.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    folder, faulty = tmp_path / "memory", names[1:2]
    assert recall(folder, tmp_path, names[0], faulty) is None
    found = remember(folder, tmp_path, names[0], Reach({}, {"tests/test_x.py::a": 1.5}), ("os",))
    assert recall(folder, tmp_path, names[0], faulty) == found
    for name, lives in ((names[2], True), (names[1], False)):
        (tmp_path / name).write_text("2")
        assert (recall(folder, tmp_path, names[0], faulty) is not None) == lives
    assert recall(folder, tmp_path, names[0], names[2:]) is None
    (tmp_path / names[1]).write_text("1")
    (tmp_path / names[0]).write_text("2")
    assert recall(folder, tmp_path, names[0], faulty) is None


PROJECT = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "shrinkspeech/__init__.py": "",
    "shrinkspeech/x.py": "def double(x):\n    return 2 * x\n\n\ndef endless():\n    while True:\n        pass\n",
    "tests/test_x.py": """import os

from shrinkspeech.x import double, endless


def test_right():
    assert double(2) == 4


def test_wrong():
    assert double(3) == 7


def test_long():
    endless()


def test_dies():
    os._exit(3)
""",
}


def verdicts(root: Path) -> dict[str, Outcome]:
    """What becomes of each test of the project, run by a process of its own: forks do not go well with threads."""
    code = """import pickle, sys
from pathlib import Path
from tests.mutants.warm import Run

nodes = [f"tests/test_x.py::test_{name}" for name in ("right", "wrong", "long", "dies")]
found = {node: Run(Path(sys.argv[1]), [node], limit=2.0, watch="right" in node).outcome() for node in nodes}
sys.stdout.buffer.write(pickle.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT, check=True, capture_output=True)
    found: dict[str, Outcome] = pickle.loads(done.stdout)
    return found


def test_a_child_tells_what_became_of_its_tests(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = verdicts(tmp_path)
    assert [outcome.verdict for outcome in found.values()] == ["passed", "failed", "timeout", "failed"]
    right, wrong = list(found)[:2]
    assert [outcome.test for outcome in found.values()] == ["", wrong, "", ""]
    reach = found[right].reach
    assert reach is not None
    assert reach.lines["x.py"] == {2: {right}, 1: set(), 5: set()}
    assert "os" in found[right].modules
    assert "shrinkspeech.x" not in found[right].modules


def made(key: str, verdict: str) -> Row:
    change = results.RETURN.join(["- a | b", "+ a & b"])
    return Row(
        "axes", "axes/x.py", 3, "f", "other operator", key, change, verdict, 1.5, "", 2, 0, "2026-01-01", "abc", "run"
    )


def test_results_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [made("k1", "killed"), made("k2", "survived")]
    results.write(tmp_path / "x.csv", rows)
    assert results.read(tmp_path / "x.csv") == rows


def test_the_page_counts_what_changes_something() -> None:
    rows = [made("k1", "killed"), made("k2", "survived"), made("k3", "survived"), made("k4", "timeout")]
    assert report.table(rows, {"k2"}).splitlines()[2] == "| axes | 4 | 2 | 2 | 1 | 67 % |"
    assert report.OPEN in report.page(rows)
