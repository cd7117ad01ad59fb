"""A warm process: it has imported everything that the tests use but the library itself, and forks for each run of tests.

Importing torch and its tracer takes seconds, a run near one file often less than one.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.mutants.reach import Reach, Watch

OURS = {"shrinkspeech", "shrinkspeech_cli", "tests", "sample_models", "benchmarks", "conftest", "__main__"}
"""What a child imports anew."""

MEMORY = 12 * 2**30
"""Bytes that a child may hold."""

PATIENCE = 20.0
"""A child is ended after so many times its processor time in any case."""

OUTPUT = "pytest.log"
"""What the tests said last, in the copy."""

FLAGS = "-x -q -p no:cacheprovider -p no:xdist -W ignore::pytest.PytestAssertRewriteWarning".split()
"""Of pytest; plugins are there before it is, which it warns of."""

SET_PARENT_DEATH_SIGNAL = 1
"""Of Linux' ``prctl``: a child dies with its parent."""

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """What a run of tests said.

    Attributes:
        verdict: ``passed``, ``failed``, ``timeout``, or ``empty`` where there was no test.
        test: the first that failed.
        seconds: of processor time; other programs do not matter to it.
        modules: what was imported for it, without our own.
        reach: which lines each test ran, where that was asked for.
    """

    verdict: str
    test: str
    seconds: float
    modules: tuple[str, ...] = ()
    reach: Reach | None = None


def warm_up(modules: Sequence[str]) -> None:
    """Import here what children would import each for itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


class Run:
    """Tests that run in a child, in a copy of the project.

    Args:
        root: the copy.
        limit: seconds of processor time after which the child is ended.
        watch: find out which lines each test runs.
    """

    def __init__(self, root: Path, tests: Sequence[str], limit: float, watch: bool = False) -> None:
        self.until = time.monotonic() + PATIENCE * limit
        self.connection, theirs = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=_child, args=(root, list(tests), limit, watch, theirs))
        self.process.start()
        theirs.close()

    def outcome(self) -> Outcome:
        """Wait for the end."""
        found = Outcome("timeout", "", 0.0)
        with contextlib.suppress(EOFError):  # the child died
            if self.connection.poll(max(self.until - time.monotonic(), 0)):
                found = Outcome("failed", "", 0.0)
                found = self.connection.recv()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()
        self.connection.close()
        return replace(found, verdict="timeout") if self.process.exitcode == -signal.SIGXCPU else found


class _FirstFailure:
    """A plugin of pytest that remembers which test failed first."""

    def __init__(self) -> None:
        self.test = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid


def _ours(module: str) -> bool:
    return module.partition(".")[0] in OURS and not module.startswith("tests.mutants")


def _child(root: Path, tests: list[str], limit: float, watch: bool, connection: Connection) -> None:
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 10))
    os.chdir(root)
    said = os.open(OUTPUT, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.path[:0] = [str(root), str(root / "cli")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if _ours(name) and name != "__main__"]:
        del sys.modules[name]
    import pytest

    first = _FirstFailure()
    watching = Watch(root / "shrinkspeech") if watch else None
    code = int(pytest.main([*FLAGS, *tests], plugins=[first, *([watching] if watching else [])]))
    verdict = {0: "passed", 5: "empty"}.get(code, "failed")
    modules = [name for name in sys.modules if not _ours(name)]
    reach = watching.reach() if watching else None
    connection.send(Outcome(verdict, first.test, time.process_time(), tuple(modules), reach))
    connection.close()
    os._exit(0)
