"""Modules that have moved into folders still answer to the names that they had before.

Importing ``shrinkspeech.recipe`` gives ``shrinkspeech.fitting.recipe``, the same module, with a ``DeprecationWarning``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HOME = {
    "captured": "graph.captured",
    "checkpoints": "fitting.checkpoint",
    "examples": "loading.examples",
    "fitted": "fitting.report",
    "folding": "surgery.fold",
    "gating": "surgery.insert",
    "labelling": "groups.label",
    "latency": "budget.latency",
    "onnx_cost": "export.file_cost",
    "recipe": "fitting.recipe",
    "scoring": "fitting.taylor",
    "settings": "fitting.settings",
    "slicing": "surgery.slice",
    "targets": "budget.registry",
    "training": "fitting.trainer",
    "verify": "export.check",
}
"""Old name → where the module lives now, below ``shrinkspeech``."""


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old name."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        name = fullname.removeprefix("shrinkspeech.")
        return ModuleSpec(fullname, self) if name != fullname and name in HOME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        home = f"shrinkspeech.{HOME[spec.name.removeprefix('shrinkspeech.')]}"
        warnings.warn(f"{spec.name} is now {home}", DeprecationWarning, stacklevel=2)
        module = import_module(home)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run already: it gets back the record of its own name that importing overwrites."""
        if module.__spec__ is not None and module.__spec__.loader is self:
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let old names be found, once for each process."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
