"""The captured graph against the model itself, on the example's own inputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from shrinkspeech.errors import CaptureError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import distance, max_difference, seeded

TOLERANCE = 1e-4
"""Relative to the largest output; the same operators in the same order differ by rounding alone."""


def require_agreement(captured: Captured, model: nn.Module, found: Any, wanted: Any) -> None:
    """Compare the captured graph with the model.

    Args:
        found: what the graph returns for the example.
        wanted: what the model returns for it; None where that is not known yet.

    Raises:
        CaptureError: they differ on the example inputs; it names by how much and the module where that begins.
    """
    inputs = captured.example_inputs
    wanted = seeded(model, inputs) if wanted is None else wanted
    worst = max_difference(found, wanted, nan_agrees=True)
    if worst <= TOLERANCE or max_difference(seeded(model, inputs, seed=1), wanted, nan_agrees=True) > TOLERANCE:
        return
    where = first_difference(captured, model)
    raise CaptureError(
        f"the captured graph differs from the model on the example inputs, by {worst:.1e} of the largest output"
        + (f", first in {where}" if where else "")
        + ": torch.export does not see what the model computes there; what depends on torch.compiler.is_compiling() or "
        "on state outside the graph must be the same while it is captured"
    )


def first_difference(captured: Captured, model: nn.Module) -> str:
    """The first module, in the order of the run, whose output no node of the graph has; empty if all are there."""
    outputs: list[tuple[str, nn.Module, Tensor]] = []

    def note(path: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            outputs.extend((path, module, x.clone()) for x in pytree.tree_leaves(result)[:1] if isinstance(x, Tensor))

        return module.register_forward_hook(hook)

    handles = [note(path, module) for path, module in model.named_modules() if path]
    try:
        seeded(model, captured.example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    values = _values(captured)
    for path, module, wanted in outputs:
        inside = [x for name, x in values if name == path or name.startswith(f"{path}.")]
        found = [x for x in inside or (x for _, x in values) if x.shape == wanted.shape]
        if not any(distance(x, wanted, nan_agrees=True) <= TOLERANCE for x in found):
            return f"{path} ({type(module).__name__})"
    return ""


def _values(captured: Captured) -> list[tuple[str, Tensor]]:
    """What every node of the graph computes for the example, with the path of its module."""
    recorder = _Values(captured.graph_module)
    seeded(captured.graph_module, captured.example_inputs, run=recorder.run)
    return [(captured.module_of(node), x) for node, x in recorder.values.items()]


class _Values(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.values[n] = result.clone()
        return result
