"""Which lines of the library each test runs, and how long it takes: a fault is shown to those tests that run its function."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest


@dataclass
class Reach:
    """Tests by file below ``shrinkspeech/`` and line, and the seconds of processor time of each test.

    What is run while a fixture is made for one test may serve the tests after it: these lines belong to all tests of its file.
    """

    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def tests(self, path: str, span: tuple[int, int] | None, files: Sequence[str]) -> list[str]:
        """Tests of some test files that run any of the lines, the quickest of each file first; all where there is no span."""
        wanted = [test for test in self.seconds if test.partition("::")[0] in files]
        if span is not None:
            by_line = self.lines.get(path, {})
            found = {test for line in range(span[0], span[1] + 1) for test in by_line.get(line, ())}
            wanted = [test for test in wanted if test in found or test.partition("::")[0] in found]
        return sorted(wanted, key=lambda test: (files.index(test.partition("::")[0]), self.seconds[test]))

    def add(self, other: Reach) -> None:
        """Take in what other tests run."""
        self.seconds |= other.seconds
        for path, lines in other.lines.items():
            for line, tests in lines.items():
                self.lines.setdefault(path, {}).setdefault(line, set()).update(tests)


class Watch:
    """A plugin of pytest that follows which test runs which lines below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(data_file=None, source=[str(folder)], config_file=False)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        started = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - started
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: Any) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid.partition("::")[0])
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def reach(self) -> Reach:
        """What was run, once the tests are done."""
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {
            str(Path(name).relative_to(self.folder)): {
                line: {context for context in contexts if context}
                for line, contexts in data.contexts_by_lineno(name).items()
            }
            for name in data.measured_files()
        }
        return Reach(lines, self.seconds)
