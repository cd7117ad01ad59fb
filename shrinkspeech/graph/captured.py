"""A captured graph: what every later stage works on, and how it is saved, trained and looked into."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from shrinkspeech.errors import CaptureError, InputError
from shrinkspeech.files import replacing, seal
from shrinkspeech.graph import stand_ins
from shrinkspeech.graph.compare import seeded
from shrinkspeech.graph.copies import refuse_outdated, watch
from shrinkspeech.graph.functions import without_detours
from shrinkspeech.graph.modes import TrainableGraph, trainable
from shrinkspeech.graph.normalise import own_memory
from shrinkspeech.graph.quiet import quiet
from shrinkspeech.graph.swift import swift


@dataclass(frozen=True)
class Axis:
    """Dimensions of the inputs that change together.

    Attributes:
        places: each as (input, dimension); sizes keep their ratio.
        sizes: of the first place, other than in the example, at which graph and model were seen to agree.
    """

    places: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...] = ()

    @property
    def is_batch(self) -> bool:
        """Whether it is the first dimension of an input."""
        return any(dim == 0 for _, dim in self.places)

    @property
    def unproved(self) -> Axis:
        """The same dimensions, without the sizes that were seen."""
        return Axis(self.places)


@dataclass(frozen=True)
class State:
    """What a model returns to be given back with the next chunk: a recurrent state, a convolution cache, keys and values.

    Attributes:
        input, output: its places among the leaves that go in and come out.
        source, result: what these are called.
        grows: the dimension in which it comes back longer, as a cache of all frames so far does; None where it keeps its size.
    """

    input: int
    output: int
    source: str
    result: str
    grows: int | None = None


@dataclass(frozen=True)
class Captured:
    """A model as an ATen graph in eval mode.

    Attributes:
        graph_module: the graph and its parameters.
        example_inputs: one tensor for each input.
        dynamic: for each input tensor the dimensions that may have another size than in the example.
        shapes: sizes of every tensor that each node returns for the example inputs, by node name.
        numbers: values of the nodes that compute sizes.
        notes: what could not be had, in sentences.
        axes: the dynamic dimensions as they were proved, those that change together in one.
        time_first: why the first dimension seems to be no batch, in a sentence; empty where it may be one.
        states: outputs that are inputs of the next chunk; none of their axes but the batch is dynamic.
        started: the graph makes its states at the start, of zeros; they are no inputs of it (``start.py``).
    """

    graph_module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    dynamic: tuple[frozenset[int], ...]
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    time_first: str = ""
    states: tuple[State, ...] = ()
    started: bool = False

    @property
    def batch(self) -> int:
        """Items in the example batch: inputs are batch first, so the first dimension of the first input that has several."""
        tensors = [x for x in pytree.tree_leaves(self.example_inputs) if isinstance(x, Tensor) and x.dim() > 1]
        return int(tensors[0].shape[0]) if tensors else 1

    @property
    def parameter_count(self) -> int:
        """Elements of the model's ``nn.Parameter`` tensors, each tensor once; buffers (tables, statistics) are none."""
        return sum(x.numel() for x in self.graph_module.parameters())

    def module(self) -> TrainableGraph:
        """A trainable copy: its ``train()`` and ``eval()`` work; parameters are not shared.

        Once the copy is trained, the record itself is out of date, and what is made of it (``slice``, ``export_onnx``,
        ``save``, ``gate``, ``fit``) is refused: go on with ``captured.trained(module)``.
        """
        module = self.copy()
        watch(self.graph_module, module)
        return module

    def trained(self, module: nn.Module) -> Captured:
        """The record with the weights of a trained copy, which is left as it is.

        Raises:
            InputError: the module is no copy of this graph: names or shapes of its tensors differ.
        """
        fresh, weights = self.copy(), module.state_dict()
        own = fresh.state_dict()
        if {name: x.shape for name, x in own.items()} != {name: x.shape for name, x in weights.items()}:
            raise InputError("these weights are not of a copy of this graph: give what captured.module() returned")
        fresh.load_state_dict(weights)
        return replace(self, graph_module=fresh)

    def copy(self) -> TrainableGraph:
        """As ``module``, for a copy whose training does not concern the record."""
        with quiet():
            return trainable(copy.deepcopy(self.graph_module)).eval()

    def parameters(self) -> dict[str, Tensor]:
        """Parameters, buffers and constants under the user's own names."""
        return dict(self.graph_module.state_dict(keep_vars=True))

    def module_of(self, node: fx.Node) -> str:
        """Path of the user's module that computes ``node``; empty for the model itself."""
        stack = node.meta.get("nn_module_stack") or {}
        path = list(stack.values())[-1][0] if stack else ""
        return "" if path.startswith("_empty") else path.removeprefix("L['self'].")

    def where(self, node: fx.Node) -> str:
        """Module path and source line of ``node``, as far as the graph knows them."""
        stack = node.meta.get("nn_module_stack") or {}
        kind = str(list(stack.values())[-1][1]).rpartition(".")[2] if stack else ""
        parts = [
            f"{self.module_of(node) or 'model'}" + (f" ({kind})" if kind and not kind.startswith("_empty") else "")
        ]
        line = source_line(node)
        return ", ".join([*parts, line] if line else parts)

    def save(self, path: str | Path, extra_files: dict[str, Any] | None = None) -> None:
        """Write a ``.pt2`` that ``torch.export.load`` reads without any of the user's code.

        Raises:
            InputError: a weight is not finite, or a copy of the graph has been trained; nothing is written.
        """
        refuse_outdated(self.graph_module)
        self.refuse_not_finite()
        program = self.program()
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=extra_files or {})
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
            seal(temporary)

    def refuse_not_finite(self) -> None:
        """Weights that are not finite go into no file. Buffers may hold infinity, as masks do, but no NaN.

        Raises:
            InputError: one is not; the message names the first of them and how many there are.
        """
        weights, tensors = dict(self.graph_module.named_parameters()), self.graph_module.state_dict()
        real = {name: x for name, x in tensors.items() if x.is_floating_point() or x.is_complex()}
        bad = [name for name, x in real.items() if not bool((x.isfinite() if name in weights else ~x.isnan()).all())]
        if bad:
            raise InputError(
                f"{bad[0]} holds values that are not finite ({len(bad)} of {len(real)} tensors do): such a model is not written"
            )

    def program(self, for_onnx: bool = False) -> ExportedProgram:
        """The graph as an ``ExportedProgram`` in eval mode, with the same dynamic dimensions.

        Raises:
            CaptureError: torch cannot export it once more, for instance as it cannot solve for the sizes.
        """
        module = self.copy()
        if for_onnx:
            stand_ins.stand_in(module)
            own_memory(module)
            without_detours(module)
        spec = dynamic_spec(self.example_inputs, self.dynamic)
        try:
            with stand_ins.tracing(), quiet(), swift():
                program = torch.export.export(module, self.example_inputs, dynamic_shapes=spec, strict=False)
        except Exception as error:  # torch and sympy raise what they like
            reason = " ".join(str(error).split())[:300]
            raise CaptureError(
                f"torch.export cannot write the captured graph as a program ({type(error).__name__}: {reason}): "
                "make the sizes in its forward simpler, or fix the length"
            ) from error
        if not for_onnx:
            stand_ins.restore(program.graph_module)
        return program


def source_line(node: fx.Node) -> str:
    """``file.py:12`` of the innermost line of user code that made ``node``."""
    lines = [
        line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip().startswith("File ")
    ]
    others = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep)
    for line in reversed(lines):
        name = line.split('"')[1]
        if not name.startswith(others) and "<" not in name:
            return f"{os.path.basename(name)}:{line.split('line ')[1].split(',')[0]}"
    return ""


class _Recorder(fx.Interpreter):
    """Runs a graph and writes down sizes and numbers, nothing else."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
        self.numbers: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        leaves = list(result) if isinstance(result, list | tuple) else [result]
        self.shapes[n.name] = tuple(tuple(x.shape) for x in leaves if isinstance(x, Tensor))
        if isinstance(result, int | float | bool):
            self.numbers[n.name] = result
        return result


def with_shapes(captured: Captured) -> Captured:
    """The record with sizes read off a run of the graph on its example inputs."""
    return recorded(captured)[0]


def recorded(captured: Captured) -> tuple[Captured, Any]:
    """The same, and what the graph returns in that run."""
    recorder = _Recorder(captured.graph_module)
    outputs = seeded(captured.graph_module, captured.example_inputs, run=recorder.run)
    return replace(captured, shapes=recorder.shapes, numbers=recorder.numbers), outputs


def attribute(module: nn.Module, path: str) -> Any:
    """A parameter, buffer or constant by its dotted path."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def set_attribute(module: nn.Module, path: str, value: Any) -> None:
    """Replace a parameter, buffer or constant by its dotted path."""
    parent, _, name = path.rpartition(".")
    setattr(attribute(module, parent) if parent else module, name, value)


def dynamic_spec(inputs: tuple[Any, ...], dynamic: tuple[frozenset[int], ...]) -> Any:
    leaves, spec = pytree.tree_flatten(inputs)
    dims = [{dim: Dim.AUTO for dim in sorted(which)} or None for which in dynamic]
    return pytree.tree_unflatten(dims[: len(leaves)], spec)
