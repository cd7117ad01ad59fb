"""Put faults into a copy of the library and see whether the tests near them notice.

    python -m tests.mutants.run --number 40

Draws so many faults in each folder, always the same ones for a seed; runs for each the tests that ``near.toml`` names and that
run the function with the fault, up to the first that fails; writes ``benchmarks/results/mutants.csv`` and the survivors
into ``docs/testing.md``. What is begun and not finished is gone on with. The checkout itself is never changed: faults go into
copies of it.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from tests.mutants import results
from tests.mutants.make import Mutant, files_in, mutants, sample
from tests.mutants.memory import recall, remember
from tests.mutants.reach import Reach
from tests.mutants.report import summary, write_page
from tests.mutants.results import Row
from tests.mutants.warm import OUTPUT, Outcome, Run, warm_up

ROOT = Path(__file__).parents[2]
FOLDERS = "axes groups rules surgery budget fitting".split()
MEMORY = ROOT / ".mutants"
RESULTS = ROOT / "benchmarks" / "results" / "mutants.csv"

LIMIT = (20.0, 4.0)
"""A child may take so many seconds of processor time, and so many times as long as without a fault."""


def near(path: str, table: Mapping[str, Sequence[str]]) -> list[str]:
    """Test files near a file below ``shrinkspeech/``: those of the most specific line of the table."""
    line = max((name for name in table if f"{path}/".startswith(f"{name}/")), key=len)
    return [f"tests/{name}.py" for name in table[line]]


def load_table() -> dict[str, list[str]]:
    """The lines of ``near.toml``."""
    table: dict[str, list[str]] = tomllib.loads((ROOT / "tests/mutants/near.toml").read_text(encoding="utf-8"))["near"]
    return table


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def copies(number: int) -> Iterator[list[Path]]:
    """Copies of all files that git knows or would add."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        roots = [Path(folder) / str(i) for i in range(number)]
        for name in git("ls-files", "-co", "--exclude-standard", "-z").split("\0"):
            for root in roots if name and (ROOT / name).is_file() else ():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        for root in roots:
            subprocess.run([sys.executable, "-m", "compileall", "-q", str(root)], check=False)
        yield roots


def drawn(folder: str, number: int, seed: int, only: str) -> list[Mutant]:
    """The faults of one folder."""
    paths = files_in(ROOT / "shrinkspeech", folder)
    names = {str(path.relative_to(ROOT / "shrinkspeech")): path for path in paths}
    found = [mutant for name, path in names.items() for mutant in mutants(path.read_text(encoding="utf-8"), name)]
    return [mutant for mutant in sample(found, number, seed) if mutant.path.startswith(only)]


def reached(root: Path, faulty: Mapping[str, Sequence[str]]) -> Reach:
    """What the tests run without a fault, one file after the other; what they import is kept for those that follow.

    Args:
        faulty: for each test file the files of the library whose faults it will see.

    Raises:
        SystemExit: they fail.
    """
    reach = Reach()
    for name in sorted(faulty):
        known = recall(MEMORY, ROOT, name, faulty[name])
        if known is None:
            found = Run(root, [name], 3600.0, watch=True).outcome()
            if found.verdict != "passed" or found.reach is None:
                print((root / OUTPUT).read_text(encoding="utf-8"))
                sys.exit(f"without any fault {found.test or name} says '{found.verdict}'")
            known = remember(MEMORY, ROOT, name, found.reach, found.modules)
            print(f"{len(found.reach.seconds):4} tests {found.seconds:7.1f} s  {name}", flush=True)
        warm_up(known.modules)
        reach.add(known.reach)
    return reach


@contextmanager
def fault(root: Path, mutant: Mutant) -> Iterator[None]:
    """The file with the fault, in a copy."""
    path = root / "shrinkspeech" / mutant.path
    before = path.read_bytes()
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        stale.unlink()
    path.write_text(mutant.source, encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(before)


def row(mutant: Mutant, outcome: Outcome, options: argparse.Namespace, commit: str) -> Row:
    verdict = {"passed": results.SURVIVED, "failed": "killed"}.get(outcome.verdict, outcome.verdict)
    return Row(
        folder=mutant.path.partition("/")[0],
        file=mutant.path,
        line=mutant.line,
        function=mutant.function,
        kind=mutant.kind,
        key=mutant.key,
        change=results.RETURN.join(mutant.diff()),
        verdict=verdict,
        seconds=round(outcome.seconds, 1),
        test=outcome.test,
        number=options.number,
        seed=options.seed,
        date=datetime.date.today().isoformat(),
        commit=commit,
        command=f"python -m tests.mutants.run --number {options.number} --seed {options.seed}",
    )


def judge(todo: Sequence[Mutant], options: argparse.Namespace, part: Path) -> None:
    """Run the tests near each fault, ``options.workers`` at a time, and write each verdict down at once."""
    table, commit = load_table(), git("describe", "--always", "--dirty").strip()
    files = {mutant.path: near(mutant.path, table) for mutant in todo}
    torch.set_num_threads(1)
    with copies(options.workers) as roots:
        every = sorted({name for names in files.values() for name in names})
        reach = reached(
            roots[0], {name: [f"shrinkspeech/{path}" for path in files if name in files[path]] for name in every}
        )
        tests = {mutant.key: reach.tests(mutant.path, mutant.span, files[mutant.path]) for mutant in todo}
        for start in range(0, len(todo), len(roots)):
            batch = todo[start : start + len(roots)]
            for mutant, outcome in zip(batch, together(batch, roots, tests, reach.seconds), strict=True):
                found = row(mutant, outcome, options, commit)
                results.append(part, found)
                print(f"{found.verdict:8} {found.seconds:6.1f} s  {found.file}:{found.line} {found.change}", flush=True)


def together(
    batch: Sequence[Mutant], roots: Sequence[Path], tests: Mapping[str, Sequence[str]], seconds: Mapping[str, float]
) -> list[Outcome]:
    """One fault in each copy, side by side."""
    if not batch:
        return []
    mutant, root, wanted = batch[0], roots[0], tests[batch[0].key]
    if not wanted:  # no test runs its function
        return [Outcome("passed", "", 0.0), *together(batch[1:], roots, tests, seconds)]
    with fault(root, mutant):
        run = Run(root, wanted, LIMIT[0] + LIMIT[1] * sum(seconds[name] for name in wanted))
        others = together(batch[1:], roots[1:], tests, seconds)
        return [run.outcome(), *others]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=40, help="faults in each folder")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--folder", nargs="+", choices=FOLDERS, default=FOLDERS)
    parser.add_argument("--file", default="", help="only those in files below shrinkspeech/ whose path begins so")
    parser.add_argument("--workers", type=int, default=1, help="faults that are tried at the same time")
    parser.add_argument("--survivors", action="store_true", help="only those that survived in the file of results")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    before = results.read(options.results)
    part = options.results.with_suffix(".csv.part")
    chosen = [mutant for name in options.folder for mutant in drawn(name, options.number, options.seed, options.file)]
    if options.survivors:
        alive = {row.key for row in before if row.survived}
        chosen = [mutant for mutant in chosen if mutant.key in alive]
    done = {row.key for row in results.read(part)}
    judge([mutant for mutant in chosen if mutant.key not in done], options, part)
    keys = {mutant.key for mutant in chosen}
    fresh = [row for row in results.read(part) if row.key in keys]
    whole = [mutant.key for name in FOLDERS for mutant in drawn(name, options.number, options.seed, "")]
    kept = [row for row in before if row.key in whole and row.key not in keys]
    results.write(options.results, [*kept, *fresh])
    part.unlink(missing_ok=True)
    print(summary(fresh))
    write_page(results.read(options.results))


if __name__ == "__main__":
    main()
