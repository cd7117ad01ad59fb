"""What the rule of each kind of operator says of single nodes: axes, reads, literals, costs, folds, and what it freezes.

The cases stand in ``tests/effects/*.txt``: a call as in the graph, and below it what its rule must say (``rule_bench.py``
tells how it is written). Arguments by position, by keyword and left out, dimensions from the front and the back are all met.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rule_bench import N, S, T, W, said

FOLDER = Path(__file__).with_name("effects")
NAMES: dict[str, Any] = {
    **{"said": said, "aten": torch.ops.aten, "T": T, "W": W, "S": S, "N": N},
    **{"long": torch.long, "boolean": torch.bool, "uint8": torch.uint8, "complex64": torch.complex64},
    "float64": torch.float64,
}


def cases(table: str) -> list[tuple[str, str]]:
    lines = (FOLDER / f"{table}.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) % 2 == 0
    return [(call, effect.strip()) for call, effect in zip(lines[::2], lines[1::2], strict=True)]


@pytest.mark.parametrize("table", sorted(path.stem for path in FOLDER.glob("*.txt")))
@pytest.mark.filterwarnings("ignore:.*only bool.*:UserWarning")
def test_effects(table: str) -> None:
    wrong = []
    for call, effect in cases(table):
        found = eval(f"said(aten.{call})", NAMES)
        if found != effect:
            wrong.append(f"{call}\n    {effect}\n    {found}")
    assert not wrong, "\n".join(["call, what its rule should say, and what it says:", *wrong])
