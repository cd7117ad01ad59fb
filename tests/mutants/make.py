"""All faults that can be put into a file, and a sample of them."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

from tests.mutants.operators import OPERATORS

UNTOUCHED = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Raise, cst.Assert, cst.FormattedString)
"""Types, imports and messages: nothing inside them is changed."""

CHECKS = {"isinstance", "len", "TypeVar", "field", "dataclass", "print"}
"""Calls whose arguments have no second choice."""


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        function: qualified name of the function that it is in; empty outside of any.
        span: first and last line of that function; None outside of any.
        key: says which fault it is, wherever in the file its line has moved to.
    """

    path: str
    line: int
    function: str
    span: tuple[int, int] | None
    kind: str
    key: str
    module: cst.Module
    old: cst.CSTNode
    new: cst.CSTNode

    @property
    def source(self) -> str:
        """The whole file with the fault."""
        changed = self.module.deep_replace(self.old, self.new)
        assert isinstance(changed, cst.Module)
        return changed.code

    def diff(self) -> list[str]:
        """The lines that differ, each with - or + in front."""
        before, after = self.module.code.splitlines(), self.source.splitlines()
        lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
        return [line[0] + " " + line[1:].strip() for line in lines if not line.startswith("@@")]


def mutants(source: str, path: str) -> list[Mutant]:
    """Every fault that the operators know for a file."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    finder = _Finder(path, wrapper.module)
    wrapper.visit(finder)
    return finder.found


def sample(found: Iterable[Mutant], number: int, seed: int) -> list[Mutant]:
    """So many faults, drawn by a hash of seed and fault: a fault stays in the sample when others come and go."""
    drawn = sorted(found, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).hexdigest())[:number]
    return sorted(drawn, key=lambda mutant: (mutant.path, mutant.line, mutant.key))


def files_in(root: Path, folder: str) -> list[Path]:
    """Python files that hold more than the words of a package."""
    return sorted(path for path in (root / folder).rglob("*.py") if path.name != "__init__.py")


def _untouched(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Call):
        return isinstance(node.func, cst.Name) and node.func.value in CHECKS
    if isinstance(node, cst.Expr):
        return isinstance(node.value, cst.SimpleString | cst.ConcatenatedString)
    if isinstance(node, cst.Arg):  # zip(..., strict=True) is a check, not behaviour
        return node.keyword is not None and node.keyword.value == "strict"
    if isinstance(node, cst.Assign):
        return m.matches(node.targets[0].target, m.Name("__all__"))
    return isinstance(node, UNTOUCHED)


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: str, module: cst.Module) -> None:
        super().__init__()
        self.path, self.module = path, module
        self.inside: list[str] = []
        self.spans: list[tuple[int, int]] = []
        self.found: list[Mutant] = []
        self.seen: Counter[str] = Counter()
        self.line = 1

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _untouched(node):
            return False
        if (position := self.get_metadata(PositionProvider, node, None)) is not None:  # operators have none
            self.line = position.start.line
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.inside.append(node.name.value)
        if isinstance(node, cst.FunctionDef) and position is not None:
            self.spans.append((position.start.line, position.end.line))
        for kind, (types, change) in OPERATORS.items():
            if isinstance(node, types):
                for new in change(node):
                    self._add(kind, node, new)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self.inside.pop()
        if isinstance(original_node, cst.FunctionDef):
            self.spans.pop()

    def _add(self, kind: str, old: cst.CSTNode, new: cst.CSTNode) -> None:
        function = ".".join(self.inside)
        text = "\n".join([self.path, function, kind, self.module.code_for_node(old), self.module.code_for_node(new)])
        self.seen[text] += 1
        key = hashlib.sha256(f"{text}\n{self.seen[text]}".encode()).hexdigest()[:10]
        span = self.spans[-1] if self.spans else None
        self.found.append(Mutant(self.path, self.line, function, span, kind, key, self.module, old, new))
