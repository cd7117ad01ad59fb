"""How long each form of a Fourier transform takes in onnxruntime, with one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir
import torch
from torch import Tensor, fx, nn

from shrinkspeech.export.onnx_file import OnnxFile
from shrinkspeech.export.onnx_graph import onnx_model
from shrinkspeech.export.real_numbers import use_real_numbers
from shrinkspeech.export.timing import in_turns
from shrinkspeech.export.transforms import AUTO, CONV, OPERATOR, Forms, Transform
from shrinkspeech.export.unread import without_unread
from shrinkspeech.graph.captured import Captured, with_shapes

aten = torch.ops.aten

LONG_ENOUGH = 0.05
"""Seconds that the runs of a form take together, so that a moment of a busy machine does not decide."""

FEWEST, MOST = 3, 30
"""Runs of a form."""


def alone(transforms: Sequence[Transform]) -> tuple[fx.GraphModule, tuple[Tensor, ...], list[str]]:
    """A graph in which each transform stands twice, one input each, and the names of their nodes."""
    module, graph = nn.Module(), fx.Graph()
    inputs = [graph.placeholder(f"x{i}") for i in range(len(transforms))]
    names, outputs = [], []
    for i, (transform, x) in enumerate(zip(transforms, inputs, strict=True)):
        module.register_buffer(f"window{i}", torch.hann_window(transform.points) + 0.1)
        for form in (CONV, OPERATOR):
            node = _node(graph, transform, x, graph.get_attr(f"window{i}"), f"{form}_{i}")
            names.append(node.name)
            parts = (aten.real.default, aten.imag.default) if transform.gives_spectrum else ()
            found = [graph.call_function(part, (node,)) for part in parts] or [node]
            if transform.bins:
                found = [graph.call_function(aten.narrow.default, (part, 1, 0, transform.bins)) for part in found]
            outputs.append(found)
    graph.output(tuple(tuple(each) for each in outputs))
    return fx.GraphModule(module, graph), tuple(_example(transform) for transform in transforms), names


def _example(transform: Transform) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    pair = () if transform.gives_spectrum else (2,)
    return torch.randn((*transform.sizes, *pair), generator=generator)


def _node(graph: fx.Graph, transform: Transform, x: fx.Node, window: fx.Node, name: str) -> fx.Node:
    points, hop, onesided = transform.points, transform.hop, not transform.whole
    z = x if transform.gives_spectrum else graph.call_function(aten.view_as_complex.default, (x,))
    target, args = {
        "stft": (aten.stft.default, (points, hop, points, window, False, onesided, True)),
        "istft": (aten.istft.default, (points, hop, points, window, True, False, onesided)),
        "rfft": (aten.fft_rfft.default, (points,)),
        "irfft": (aten.fft_irfft.default, (points,)),
    }[transform.kind]
    return graph.create_node("call_function", target, (z, *args), name=name)


def planned(captured: Captured, wanted: str) -> Forms:
    """The forms of a model's transforms: as wanted, or the faster of each by a measurement at the example's length.

    Raises:
        ExportError: the model has an operator on complex numbers without a form in real ones.
        InputError: there is no such form.
    """
    if wanted != AUTO:
        return Forms(wanted, batch=captured.batch)
    tried, copy = Forms(CONV, batch=captured.batch), replace(captured, graph_module=captured.copy())
    use_real_numbers(copy, tried)
    without_unread(copy, tried)
    dense = tuple(dict.fromkeys(each.transform for each in tried.found.values() if each.form == CONV))
    forms = Forms(AUTO, _times(dense) if dense else {}, captured.batch)
    forms.bins.update(tried.bins)
    return forms


@lru_cache(maxsize=16)
def _times(transforms: tuple[Transform, ...]) -> Mapping[Transform, Mapping[str, float]]:
    """Seconds of both forms of each transform: a model that is measured at many widths has the same ones."""
    module, inputs, names = alone(transforms)
    dynamic = (frozenset[int](),) * len(inputs)
    captured = with_shapes(Captured(module, inputs, dynamic, {}))
    proto = onnx_ir.to_proto(
        onnx_model(captured, Forms(AUTO, chosen=dict(zip(names, (CONV, OPERATOR) * len(inputs), strict=True))))
    )
    feed = {value.name: x.numpy() for value, x in zip(proto.graph.input, inputs, strict=True)}
    found, outputs = {}, list(proto.graph.output)
    for transform in transforms:
        sessions = []
        for _ in (CONV, OPERATOR):
            count = 2 if transform.gives_spectrum else 1
            sessions.append(_part(proto, outputs[:count]).session())
            outputs = outputs[count:]
        once = max(min(each) for each in in_turns(sessions, feed, 1))
        repeats = min(max(int(LONG_ENOUGH / once), FEWEST), MOST)
        quickest = [min(each) for each in in_turns(sessions, feed, repeats)]
        found[transform] = dict(zip((CONV, OPERATOR), quickest, strict=True))
    return found


def _part(proto: onnx.ModelProto, outputs: Sequence[Any]) -> OnnxFile:
    """Some outputs and what they need: onnxruntime would compute the rest, too."""
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.output[:], part.graph.node[:]
    part.graph.output.extend(outputs)
    wanted, nodes = {value.name for value in outputs}, []
    for node in reversed(proto.graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    part.graph.node.extend(reversed(nodes))
    return OnnxFile.of(part)
