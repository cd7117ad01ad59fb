"""ShrinkSpeech: shrink trained speech models to a FLOP/s budget.

    captured = shrinkspeech.load("model.pt2")
    groups = shrinkspeech.label(captured)
    fitted = shrinkspeech.fit(captured, "recipe.py", target_flops="25%")
    shrinkspeech.export_onnx(fitted.captured, "model.onnx")

Names are imported on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shrinkspeech.moved import install

if TYPE_CHECKING:
    from shrinkspeech.export.exporter import ExportReport, export_onnx
    from shrinkspeech.fitting.fit import fit
    from shrinkspeech.fitting.report import Fitted
    from shrinkspeech.fitting.sweep import sweep
    from shrinkspeech.graph.capture import capture
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.flops import flops
    from shrinkspeech.groups.groups import Group, Groups
    from shrinkspeech.groups.label import label
    from shrinkspeech.loading.load import load
    from shrinkspeech.loading.load_into import load_into
    from shrinkspeech.surgery.insert import GatedModule, gate
    from shrinkspeech.surgery.slice import slice

__version__ = "0.1.0"

install()

_HOME = {
    "Captured": "graph.captured",
    "ExportReport": "export.exporter",
    "Fitted": "fitting.report",
    "GatedModule": "surgery.insert",
    "Group": "groups.groups",
    "Groups": "groups.groups",
    "capture": "graph.capture",
    "export_onnx": "export.exporter",
    "fit": "fitting.fit",
    "flops": "groups.flops",
    "gate": "surgery.insert",
    "label": "groups.label",
    "load": "loading.load",
    "load_into": "loading.load_into",
    "slice": "surgery.slice",
    "sweep": "fitting.sweep",
}

__all__ = [
    "Captured",
    "ExportReport",
    "Fitted",
    "GatedModule",
    "Group",
    "Groups",
    "capture",
    "export_onnx",
    "fit",
    "flops",
    "gate",
    "label",
    "load",
    "load_into",
    "slice",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'shrinkspeech' has no attribute '{name}'")
    value = getattr(import_module(f"shrinkspeech.{_HOME[name]}"), name)
    globals()[name] = value
    return value
