"""Random entries and random expressions: whatever a program holds, reading it executes nothing."""

from __future__ import annotations

import math
import random
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch

from shrinkspeech.errors import ShrinkSpeechError
from shrinkspeech.loading.expressions import is_guard, is_size
from shrinkspeech.loading.files import _program
from tests.hostile import CANARY, RUN, SPELT, Net, entry, places, program_of, put, watched, with_json


@pytest.fixture(scope="module")
def program() -> bytes:
    return program_of(Net(), torch.randn(2, 800))


PAYLOADS = [
    RUN,
    SPELT,
    f"0*hash({RUN})",
    f"\n{RUN}",
    f'"+str({RUN})+"',
    f"'+str({RUN})+'",
    f"x): {RUN}\n    return (",
    f"{RUN}; y",
    "torch.os.mkdir",
    "torch.ops.aten.from_file.default",
    "torch.classes.load_library",
    "().__class__",
    f'{{"__enum__": true, "fqn": "{CANARY}:X", "name": "x"}}',
    "__import__",
    f"{CANARY}.x",
]


def test_random_entries_run_nothing(program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    choose = random.Random(0)
    messages = []
    for number in range(150):

        def edit(content: Any) -> None:
            place = choose.choice([*places(content)] or [("config",)])
            old, payload = content and entry(content, place), choose.choice(PAYLOADS)
            joined = [payload, f"{old}{payload}", f"{payload}{old}", f"{old}\n{payload}"]
            put(content, place, choose.choice(joined if isinstance(old, str) else [payload]))

        path = with_json(program, tmp_path / f"{number}.pt2", edit, choose.choice(["/models/", "/models/", "_config"]))
        with watched() as seen, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = _program(path, trust=False).module()
                model(torch.randn(2, 800))
            except ShrinkSpeechError as error:
                messages.append(str(error))
            except Exception:  # what torch raises for a program that makes no sense is fine here
                continue
            finally:
                assert seen == []
                assert not (tmp_path / CANARY).exists()
    assert len(messages) > 75
    assert not any("\n" in message for message in messages)


WORDS = [
    "s0", "s77", "Symbol", "('s0', integer=True)", "('x')", "Integer(2)", "Integer", "Add", "Mul", "Max", "FloorDiv",
    "exec", "hash", "open", "__import__", "('os')", ".mkdir", ".__class__", "(", "(", ")", ")", ",", ",", "+", "-", "*", "//",
    "%", "**", "2", "64", "0.5", "<", "==", "and", "not", "lambda:", "[0]", "L['x']", ".size()", "[1]", "min", "math.ceil",
    "math", "torch", ".os.system", "\n", " ", "if", "else", "for x in", "f'{1}'", "'a'", "True", "~", "&",
]  # fmt: skip


def test_random_expressions_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the grammars let through is evaluated as torch does it: it computes, and does nothing else."""
    monkeypatch.chdir(tmp_path)
    choose = random.Random(0)
    sizes = guards = 0
    for _ in range(20_000):
        text = "".join(choose.choices(WORDS, k=choose.randint(1, 7)))
        with watched() as seen, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_size(text):
                sizes += 1
                with suppress(Exception):
                    sympy.sympify(text)
            if is_guard(text):
                guards += 1
                with suppress(Exception):
                    eval(text, {"L": {"x": torch.zeros(2, 3)}, "math": math, "torch": torch, "__builtins__": {}})
        assert seen == []
        assert not (is_size(text) or is_guard(text)) or not re.search(
            r"(exec|hash|open)\s*\(|__|mkdir|lambda|\n|f'", text
        )
    assert sizes > 100
    assert guards > 100
