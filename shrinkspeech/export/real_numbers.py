"""A captured graph without complex numbers, for ONNX, which has none."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from shrinkspeech.errors import ExportError
from shrinkspeech.export import spectra
from shrinkspeech.export.complex_forms import FORMS
from shrinkspeech.export.complex_parts import Kinds, Parts, Writer
from shrinkspeech.export.transforms import Forms
from shrinkspeech.graph.captured import Captured, attribute

aten = torch.ops.aten

KEPT = frozenset(
    (*spectra.STFT, aten.fft_rfft.default, aten.fft_irfft.default, aten.fft_fft.default, aten.fft_ifft.default)
)
"""Operators on complex numbers that torch's exporter writes itself. Its products of complex matrices are four real ones, which
would be counted as four where the graph has one."""


def use_real_numbers(captured: Captured, forms: Forms) -> None:
    """Rewrite complex tensors as pairs of real ones, in place; an output that is complex gets a last axis of two.

    Args:
        forms: of Fourier transforms; what was written is noted there.

    Raises:
        ExportError: an operator has no form in real numbers, or an input is complex.
    """
    kinds = Kinds(captured).found
    if not any(kind.is_complex or node.target in spectra.STFT for node, kind in kinds.items()):
        return
    module = captured.graph_module
    known: dict[fx.Node, Parts] = {}
    for node in list(module.graph.nodes):
        touched = any(source in known for source in node.all_input_nodes)
        if touched or kinds[node].is_complex or node.target in spectra.STFT:
            _rewrite(captured, Writer(module, node, kinds, known, forms), known)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()


def _rewrite(captured: Captured, w: Writer, known: dict[fx.Node, Parts]) -> None:
    node = w.node
    if node.op == "output":
        node.args = (fx.map_arg(node.args[0], lambda x: w.pair(x) if x in known else x),)
        return
    if node.op == "placeholder":
        raise ExportError(
            f"input '{node.target}' is complex, and ONNX has no complex numbers: give the model real and imaginary part "
            "on a last axis, and call torch.view_as_complex in it"
        )
    found: Any = _constant(w) if node.op == "get_attr" else FORMS.get(node.target, lambda _: None)(w)
    if found is None:
        found = _kept(captured, w)
    if isinstance(found, Parts):
        known[node] = found
    elif found is not node:
        node.replace_all_uses_with(found)


def _constant(w: Writer) -> Parts:
    value = torch.view_as_real(attribute(w.module, str(w.node.target)).detach().resolve_conj())
    name = str(w.node.target).replace(".", "_")
    return Parts(*(w.constant(f"{name}_{part}", value[..., i].clone()) for i, part in enumerate(("real", "imaginary"))))


def _kept(captured: Captured, w: Writer) -> Any:
    """The operator as it is, on complex numbers made for it alone."""
    node = w.node
    if node.target not in KEPT:
        raise ExportError(
            f"{node.target} of complex numbers at {captured.where(node)} has no form in ONNX, which has no complex numbers: "
            "write it with the real and the imaginary part (torch.view_as_real)"
        )
    made = {x: w.call(aten.view_as_complex.default, w.pair(x)) for x in node.all_input_nodes if x in w.known}
    for old, new in made.items():
        node.replace_input_with(old, new)
    if not w.kinds[node].is_complex:
        return node
    graph = w.module.graph
    with graph.inserting_after(node):
        pair = graph.call_function(aten.view_as_real.default, (node,))
    with graph.inserting_after(pair):
        real, imaginary = (graph.call_function(aten.select.int, (pair, -1, i)) for i in range(2))
    return Parts(real, imaginary, pair)
