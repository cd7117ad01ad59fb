"""ONNX export: written whole, checked, and compared with torch at several sizes before anything is left on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech import __version__
from shrinkspeech.errors import ExportError, InputError
from shrinkspeech.export.constants import weight_elements
from shrinkspeech.export.feed import KEPT_VALUES
from shrinkspeech.export.onnx_file import OnnxFile, dims_of, first_line
from shrinkspeech.export.onnx_graph import onnx_model
from shrinkspeech.export.onnx_seal import sealed
from shrinkspeech.export.parameters import CONSTANTS, PARAMETERS
from shrinkspeech.export.parity import (
    Difference,
    not_sound,
    parity,
    refuse_half_recurrence,
    shapes_of,
    shapes_text,
    sized_as,
    sizes_to_try,
    tolerance_of,
)
from shrinkspeech.export.streams import Stream, streams_entry, streams_of
from shrinkspeech.export.transform_times import planned
from shrinkspeech.export.transforms import AUTO, Forms, Spectrum
from shrinkspeech.files import replacing
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.copies import refuse_outdated
from shrinkspeech.graph.names import input_names
from shrinkspeech.graph.state import refuse_state
from shrinkspeech.groups.flops import flops
from shrinkspeech.groups.label import label

STANDARD = ("", "ai.onnx")
"""Names of the domain of standard operators."""


@dataclass(frozen=True)
class ExportReport:
    """An ONNX file that agrees with the model.

    Attributes:
        path: where it was written.
        bytes: its size.
        opset: version of the standard operators.
        nodes: number of nodes of the graph.
        parity: for each set of inputs that was tried its shapes and the largest relative difference.
        dynamic: for each input the dimensions that may have any size, with their names.
        flops: FLOP/s (2 × multiply-accumulates) of the model.
        parameters: elements of the model's parameters, each tensor once.
        spectra: the forms of the Fourier transforms, and how long each takes where that was measured.
        nonstandard: operators that are not in the ONNX standard.
        states: outputs that go back into inputs with the next chunk.
        notes: what could not be had, in sentences.
    """

    path: Path
    bytes: int
    opset: int
    nodes: int
    parity: tuple[Difference, ...]
    dynamic: Mapping[str, Mapping[int, str]]
    flops: float
    parameters: int
    spectra: tuple[Spectrum, ...] = ()
    nonstandard: tuple[str, ...] = ()
    states: tuple[Stream, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """The largest difference at any size, relative."""
        return max((item.difference for item in self.parity), default=0.0)


def export_onnx(
    captured: Captured,
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    seconds: float = 1.0,
    tolerance: float | None = None,
    stft: str = AUTO,
    original_states: Mapping[str, Sequence[int]] | None = None,
) -> ExportReport:
    """Write a captured model as one ONNX file with dynamic batch and time where the capture has them.

    Args:
        metadata: entries for the file's own metadata, such as ``source``, ``widths`` (JSON) and ``budget``. The version
            of ShrinkSpeech, the FLOP/s, ``seconds``, the number of parameters, the example's shapes, its values in inputs
            that are no signal (lengths, masks, states of a few numbers), and the shapes and differences of the comparison
            (``parity``) are added, and what form Fourier transforms have (``stft``).
        seconds: audio that one item of the example batch holds, in s.
        tolerance: largest difference from torch that is accepted, relative to the largest value of an output; by the type of
            the model's numbers where none is given.
        stft: form of Fourier transforms: ``conv`` (products with their matrix), ``op`` (the runtime's operators), or ``auto``:
            for each the one that onnxruntime is faster with, measured with one thread at the example's length.
        original_states: shapes of the states before the model was shrunk, by the name of the input, for the metadata.

    Raises:
        ExportError: the model cannot be written as ONNX, or the file does not agree with it. Then no file is left, and
            one that was there before stays as it was.
        InputError: the model writes to its own tensors in forward, or the seconds are no number above zero.
    """
    refuse_outdated(captured.graph_module)
    if not 0 < seconds < math.inf:
        raise InputError(f"the seconds of audio in the example must be a number above 0, not {seconds}")
    refuse_state(captured.graph_module, "an ONNX file")
    refuse_half_recurrence(captured)
    captured.refuse_not_finite()
    forms = planned(captured, stft)
    model = onnx_model(captured, forms)
    groups = label(captured)
    cost = flops(captured, groups, seconds=seconds)
    model.producer_name, model.producer_version = "shrinkspeech", __version__
    model.metadata_props.clear()
    states = streams_of(captured, original_states)
    said = {**_own_metadata(captured, cost, seconds), **_said(forms), **streams_entry(states)}
    file = _serialised(model, {**(metadata or {}), **said})
    compared, notes = _proved(captured, file, tolerance_of(captured) if tolerance is None else tolerance)
    file = _with_entry(file, "parity", json.dumps([[item.shapes, item.difference] for item in compared]))
    with replacing(path) as temporary:
        temporary.write_bytes(sealed(file.data))
    return ExportReport(
        path=Path(path),
        bytes=Path(path).stat().st_size,
        opset=next(entry.version for entry in file.proto.opset_import if entry.domain in STANDARD),
        nodes=len(file.proto.graph.node),
        parity=compared,
        dynamic=_dynamic(file),
        flops=cost,
        parameters=captured.parameter_count,
        spectra=forms.spectra,
        nonstandard=_nonstandard(file),
        states=states,
        notes=(*notes, *(f"not in these FLOP/s, as nobody can count it: {operators}" for operators in groups.left_out)),
    )


def _own_metadata(captured: Captured, cost: float, seconds: float) -> dict[str, str]:
    return {
        "shrinkspeech_version": __version__,
        "flops_per_second": repr(cost),
        "seconds": repr(float(seconds)),
        "batch": str(captured.batch),
        "example_shapes": json.dumps(shapes_of(captured.example_inputs)),
        "example_values": json.dumps(_kept_values(captured)),
        PARAMETERS: str(captured.parameter_count),
    }


def _said(forms: Forms) -> dict[str, str]:
    return {"stft": "; ".join(map(str, forms.spectra))} if forms.spectra else {}


def _kept_values(captured: Captured) -> dict[str, Any]:
    """What the example holds where it is no signal: whole numbers and truth values, and inputs of one number an item."""
    tensors = [x for x in pytree.tree_leaves(captured.example_inputs) if isinstance(x, Tensor) and not x.is_complex()]
    return {
        name: x.tolist()
        for name, x in zip(input_names(captured), tensors, strict=False)
        if x.numel() <= (captured.batch if x.is_floating_point() else KEPT_VALUES)
    }


def _serialised(model: Any, metadata: Mapping[str, str]) -> OnnxFile:
    import onnx_ir

    try:
        proto = onnx_ir.to_proto(model)
        for key, value in {**metadata, CONSTANTS: str(weight_elements(proto))}.items():
            proto.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(proto)
        return OnnxFile.of(proto)
    except Exception as error:  # the checker and protobuf (2 GiB at most) each raise their own
        raise ExportError(f"the ONNX model is not valid: {first_line(error)}") from error


def _with_entry(file: OnnxFile, key: str, value: str) -> OnnxFile:
    """The file with one more entry in its metadata."""
    file.proto.metadata_props.add(key=key, value=value)
    return OnnxFile.of(file.proto)


def _proved(captured: Captured, file: OnnxFile, tolerance: float) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Compare with torch; returns the differences and notes.

    Raises:
        ExportError: a difference is above ``tolerance``, or the model cannot be run.
    """
    inputs_list, notes = sizes_to_try(sized_as(captured, file))
    try:
        compared = parity(captured, file, inputs_list)
    except InputError as error:
        raise ExportError(f"the ONNX model cannot be used: {error}") from error
    worst = max(compared, key=lambda item: item.difference, default=None)
    if worst is None:
        raise ExportError(f"the ONNX model could not be compared with the captured one: {'; '.join(notes)}")
    if not worst.sound:
        raise ExportError(not_sound(worst.shapes))
    if not worst.difference <= tolerance:
        raise ExportError(
            f"on inputs of {shapes_text(worst.shapes)} the ONNX model differs from the captured one by "
            f"{worst.difference:.1e}, relative to the largest value; at most {tolerance:.1e} is accepted"
        )
    return compared, (*notes, *_lost(captured, file))


def _lost(captured: Captured, file: OnnxFile) -> Sequence[str]:
    """Dimensions that the capture had dynamic and the ONNX graph has not."""
    names = input_names(captured)
    leaves = pytree.tree_leaves(captured.example_inputs)
    dynamic = [dims for dims, leaf in zip(captured.dynamic, leaves, strict=False) if isinstance(leaf, Tensor)]
    return [
        f"input '{name}': dimension {dim} is {fixed[dim]} in the ONNX graph, though the captured model takes any size"
        for name, dims, fixed in zip(names, dynamic, file.fixed_sizes, strict=False)
        for dim in sorted(dims & fixed.keys())
    ]


def _dynamic(file: OnnxFile) -> dict[str, dict[int, str]]:
    return {
        value.name: {dim: size.dim_param for dim, size in enumerate(dims_of(value)) if size.dim_param}
        for value in file.inputs
    }


def _nonstandard(file: OnnxFile) -> tuple[str, ...]:
    nodes = [node for node in file.proto.graph.node if node.domain not in STANDARD]
    return tuple(sorted({f"{node.domain}.{node.op_type}" for node in nodes}))
