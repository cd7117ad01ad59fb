"""Does a fit find widths that are known? Students of several seeds are shrunk to exactly what their targets need.

    python -m sample_models.synthetic.evaluate            # prints two tables
    python -m sample_models.synthetic.evaluate --readme   # and writes them into README.md

The first table is at the budget of the known widths, the second around it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

import shrinkspeech
from sample_models.synthetic.data import Teacher, error
from sample_models.synthetic.model import INPUTS, OUTPUTS, Student
from sample_models.synthetic.train import train
from shrinkspeech.fitting.settings import Settings

README = Path(__file__).with_name("README.md")
MARKS = "<!-- results -->", "<!-- end -->"
UNIT = 2 * (INPUTS + OUTPUTS)  # FLOP that one unit costs, in every branch
METHODS = {
    "uniform": Settings(gate_share=0.0, warm_start=1.0),
    "default": Settings(),
    "whole": Settings(warm_start=None),
}
"""``uniform``: one width for every branch, the units of the best scores, the same steps; ``whole``: no warm start."""
SHARES = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class Result:
    """Widths in the order of the branches and the error in % on inputs not seen before."""

    widths: tuple[int, ...]
    error: float

    def off(self, known: Sequence[int]) -> int:
        """The largest difference from the known widths, in units."""
        return max(abs(width - need) for width, need in zip(self.widths, known, strict=True))


def test_error(model: nn.Module, teacher: Teacher) -> float:
    """The error in % on 8,192 fixed inputs."""
    x, y = next(teacher.batches(2024, 8192))
    with torch.no_grad():
        return 100.0 * error(model(x), y).item()


def shrink(student: Student, teacher: Teacher, method: str, budget: int, steps: int, seed: int) -> Result:
    """Fit a student to ``budget`` FLOP per item."""
    captured = shrinkspeech.capture(student, (torch.zeros(2, INPUTS),))
    recipe = SimpleNamespace(
        train_batches=lambda: teacher.batches(1000 + seed, 256), loss=lambda out, b: error(out, b[1])
    )
    options = {"steps": steps, "seed": seed, "settings": METHODS[method], "evaluate": False}
    fitted = shrinkspeech.fit(captured, recipe, float(budget), **options)
    widths = tuple(fitted.widths[name] for name in sorted(fitted.widths))  # branches.0.0, branches.1.0, …
    return Result(widths, test_error(fitted.captured.graph_module, teacher))


def known_table(seeds: Sequence[int], steps: int) -> str:
    """Known and learned widths at the budget of the known ones."""
    lines = [
        "| seed | known widths | uniform | error % | default settings | error % | from the whole model | error % "
        "| original's error % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    worst = dict.fromkeys(METHODS, 0)
    for seed in seeds:
        teacher, student = Teacher.of(seed), train(seed)
        cells = [str(seed), _text(teacher.widths)]
        for method in METHODS:
            found = shrink(student, teacher, method, UNIT * sum(teacher.widths), steps, seed)
            worst[method] = max(worst[method], found.off(teacher.widths))
            cells += [_text(found.widths), f"{found.error:.3f}"]
        lines.append(_row([*cells, f"{test_error(student, teacher):.4f}"]))
        print(lines[-1], file=sys.stderr, flush=True)
    cells = ["", "largest difference in units"]
    for method in METHODS:
        cells += [str(worst[method]), ""]
    return "\n".join([*lines, _row([*cells, ""])])


def knee_table(seed: int, steps: int) -> str:
    """Error at budgets around that of the known widths."""
    teacher, student = Teacher.of(seed), train(seed)
    lines = [
        f"| budget (1 = known widths {_text(teacher.widths)}) | least possible error % | uniform | error % "
        "| from the whole model | error % |",
        "|---|---|---|---|---|---|",
    ]
    for share in SHARES:
        units = round(share * sum(teacher.widths))
        least = 100.0 * max(1 - units / sum(teacher.widths), 0.0)
        cells = [f"{units / sum(teacher.widths):.2f}", f"{least:.2f}"]
        for method in ("uniform", "whole"):
            found = shrink(student, teacher, method, UNIT * units, steps, seed)
            cells += [_text(found.widths), f"{found.error:.3f}"]
        lines.append(_row(cells))
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _text(widths: Sequence[int]) -> str:
    return ", ".join(map(str, widths))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_readme(text: str) -> None:
    """Put the tables between the marks."""
    old = README.read_text(encoding="utf-8")
    before, rest = old.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    README.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=1_000, help="of each fit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    text = f"{known_table(given.seeds, given.steps)}\n\n{knee_table(given.seeds[0], given.steps)}"
    print(text)
    if given.readme:
        write_readme(text)


if __name__ == "__main__":
    main()
