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

if TYPE_CHECKING:
    from shrinkspeech.captured import Captured
    from shrinkspeech.capturing import capture
    from shrinkspeech.counting import flops
    from shrinkspeech.export import ExportReport, export_onnx
    from shrinkspeech.fitted import Fitted
    from shrinkspeech.fitting import fit
    from shrinkspeech.gating import GatedModule, gate
    from shrinkspeech.groups import Group, Groups
    from shrinkspeech.labelling import label
    from shrinkspeech.loading import load
    from shrinkspeech.slicing import slice
    from shrinkspeech.sweeping import sweep

__version__ = "0.1.0"

_HOME = {
    "Captured": "captured",
    "ExportReport": "export",
    "Fitted": "fitted",
    "GatedModule": "gating",
    "Group": "groups",
    "Groups": "groups",
    "capture": "capturing",
    "export_onnx": "export",
    "fit": "fitting",
    "flops": "counting",
    "gate": "gating",
    "label": "labelling",
    "load": "loading",
    "slice": "slicing",
    "sweep": "sweeping",
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
    "slice",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'shrinkspeech' has no attribute '{name}'")
    value = getattr(import_module(f"shrinkspeech.{_HOME[name]}"), name)
    globals()[name] = value
    return value
