"""Capture: one ATen graph for every model, with ``torch.export``.

``Captured`` is what every later stage works on. Capture tries the routes that were measured to work most often, in
order; the error of the last one names the user's own line.
"""

from __future__ import annotations

import copy
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from shrinkspeech import recurrent
from shrinkspeech.compare import max_difference
from shrinkspeech.errors import CaptureError
from shrinkspeech.files import replacing
from shrinkspeech.modes import TrainableGraph, trainable
from shrinkspeech.normalise import normalise, own_memory


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
    """

    graph_module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    dynamic: tuple[frozenset[int], ...]
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Items in the example batch: inputs are batch first, so the first dimension of the first input that has several."""
        tensors = [x for x in pytree.tree_leaves(self.example_inputs) if isinstance(x, Tensor) and x.dim() > 1]
        return int(tensors[0].shape[0]) if tensors else 1

    def module(self) -> TrainableGraph:
        """A trainable copy: its ``train()`` and ``eval()`` work; parameters are not shared."""
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
        """Write a ``.pt2`` that ``torch.export.load`` reads without any of the user's code."""
        program = self.program()
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=extra_files or {})
        with replacing(path) as temporary:
            Path(temporary).write_bytes(buffer.getvalue())

    def program(self, for_onnx: bool = False) -> ExportedProgram:
        """The graph as an ``ExportedProgram`` in eval mode, with the same dynamic dimensions."""
        module = self.module()
        if for_onnx:
            recurrent.stand_in(module)
            own_memory(module)
        spec = _spec(self.example_inputs, self.dynamic)
        with recurrent.tracing(), quiet():
            program = torch.export.export(module, self.example_inputs, dynamic_shapes=spec, strict=False)
        if not for_onnx:
            recurrent.restore(program.graph_module)
        return program


def source_line(node: fx.Node) -> str:
    """``file.py:12`` of the innermost line of user code that made ``node``."""
    lines = [
        line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip().startswith("File ")
    ]
    torch_dir = os.path.dirname(torch.__file__)
    for line in reversed(lines):
        name = line.split('"')[1]
        if not name.startswith(torch_dir) and "<" not in name:
            return f"{os.path.basename(name)}:{line.split('line ')[1].split(',')[0]}"
    return ""


def capture(model: nn.Module | ExportedProgram, example_inputs: Sequence[Any] | None = None) -> Captured:
    """Capture a model in eval mode.

    Args:
        model: a module, or a program that is exported already (then its own example inputs serve if none are given).
        example_inputs: one tensor for each positional input, batch first, for instance ``(torch.zeros(2, 16000),)``.
            A batch of one is doubled, so that the batch can be dynamic.

    Raises:
        CaptureError: no route through ``torch.export`` works; the message holds the last route's own words.
    """
    if isinstance(model, ExportedProgram):
        inputs = _program_inputs(model, example_inputs)
        return _from_program(model, inputs, (), None)
    if example_inputs is None:
        raise CaptureError("a module needs example inputs: pass one tensor for each of its inputs")
    inputs = tuple(example_inputs)
    module = copied(model).cpu().eval()
    fold_parametrisations(module)
    doubled = _double_batch(inputs)
    failures: list[str] = []
    for strict in (False, True):
        for example, every in ((doubled, True), (doubled, False), (inputs, None)):
            try:
                program = _export(module, example, strict, every)
                notes = _route_notes(strict, every)
                return _settled(_from_program(program, example, notes, module), module, strict)
            except Exception as error:
                failures.append(f"{type(error).__name__}: {str(error).strip()[:600]}")
    fixed = f"; with fixed sizes: {failures[2]}" if failures[2] != failures[0] else ""
    raise CaptureError(f"torch.export cannot capture {type(model).__name__}: {failures[0]}{fixed}")


def _settled(captured: Captured, module: nn.Module, strict: bool) -> Captured:
    """The capture once more with the sizes fixed that turned out not to be dynamic: numbers stand where symbols stood."""
    nodes = [node for node in captured.graph_module.graph.nodes if node.op == "placeholder"]
    values = [node.meta.get("val") for node in nodes]
    symbolic = [
        {i for i, size in enumerate(x.shape) if not isinstance(size, int)} if isinstance(x, Tensor) else set()
        for x in values
    ]
    if all(found == set(proved) for found, proved in zip(symbolic, captured.dynamic, strict=True)):
        return captured
    try:
        program = _exported(module, captured.example_inputs, _spec(captured.example_inputs, captured.dynamic), strict)
        again = _from_program(program, captured.example_inputs, captured.notes, module)
    except Exception:
        return captured
    return replace(again, notes=captured.notes) if again.dynamic == captured.dynamic else captured


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that holds computed tensors (the old ``weight_norm`` keeps its weight as one)."""
    computed = [x for child in model.modules() for x in vars(child).values() if isinstance(x, Tensor) and not x.is_leaf]
    return copy.deepcopy(model, {id(x): x.detach().clone() for x in computed})


def _route_notes(strict: bool, every: bool | None) -> tuple[str, ...]:
    notes = ["captured in strict mode"] if strict else []
    if every is None:
        notes.append("no dimension could be made dynamic: batch and length stay as in the example")
    elif not every:
        notes.append("only batch and the last dimension were made dynamic")
    return tuple(notes)


def _double_batch(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch of one is repeated where every tensor has it: sizes of 1 are never dynamic."""
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]
    if tensors and all(x.dim() > 1 and x.shape[0] == 1 for x in tensors):
        return pytree.tree_map(lambda x: torch.cat([x, x]) if isinstance(x, Tensor) else x, inputs)  # type: ignore[no-any-return]
    return inputs


def _export(module: nn.Module, inputs: tuple[Any, ...], strict: bool, every: bool | None) -> ExportedProgram:
    def dims(x: Any) -> Any:
        if not isinstance(x, Tensor) or every is None:
            return None
        chosen = range(x.dim()) if every else {0, x.dim() - 1}
        return {dim: Dim.AUTO for dim in chosen if x.dim()}

    return _exported(module, inputs, None if every is None else pytree.tree_map(dims, inputs), strict)


def _exported(module: nn.Module, inputs: tuple[Any, ...], spec: Any, strict: bool) -> ExportedProgram:
    with recurrent.tracing(), quiet(), counting_modules():
        program = torch.export.export(module, inputs, dynamic_shapes=spec, strict=strict)
    recurrent.restore(program.graph_module)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """torch.export warns about its own internals; nothing there is for the user to act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def counting_modules() -> Iterator[None]:
    """torch.export loses count of modules where one raises and its caller goes on (``except TypeError: layer(x)``)."""
    original = fx.Tracer.call_module

    def call_module(tracer: fx.Tracer, *args: Any) -> Any:
        depth = len(tracer.module_stack)
        try:
            return original(tracer, *args)
        except Exception:
            while len(tracer.module_stack) > depth:
                tracer.module_stack.popitem()
            raise

    fx.Tracer.call_module = call_module  # type: ignore[assignment]
    try:
        yield
    finally:
        fx.Tracer.call_module = original  # type: ignore[method-assign]


def fold_parametrisations(module: nn.Module) -> None:
    """Weight norm (both APIs) and other parametrisations become plain weights, in place."""
    from torch.nn.utils import parametrize

    for child in module.modules():
        if parametrize.is_parametrized(child):
            # A deep copy shares its class with the original, and folding deletes the weight's property from that class.
            kind = type(child)
            child.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name in list(child.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(child, name, leave_parametrized=True)
        for key, hook in list(child._forward_pre_hooks.items()):
            if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):
                hook.remove(child)  # type: ignore[attr-defined]
                del child._forward_pre_hooks[key]


def _program_inputs(program: ExportedProgram, given: Sequence[Any] | None) -> tuple[Any, ...]:
    if given is not None:
        return tuple(given)
    if program.example_inputs is None or program.example_inputs[1]:
        raise CaptureError("this program brings no positional example inputs: pass them, or give --example")
    return tuple(program.example_inputs[0])


def _from_program(
    program: ExportedProgram, inputs: tuple[Any, ...], notes: tuple[str, ...], module: nn.Module | None
) -> Captured:
    unlifted = program.module()
    graph_module = trainable(unlifted)  # type: ignore[arg-type]
    graph_module.meta = {}
    _compact(graph_module)
    normalise(graph_module)
    dynamic = tuple(
        frozenset(i for i, size in enumerate(value.shape) if not isinstance(size, int))
        if isinstance(value, Tensor)
        else frozenset()
        for value in (node.meta.get("val") for node in graph_module.graph.nodes if node.op == "placeholder")
    )
    captured = with_shapes(Captured(graph_module, inputs, dynamic, {}, notes=notes))
    return _proved_dynamic(captured, program.module() if module is None else module)


def _compact(module: nn.Module) -> None:
    """A tensor that is a window into a larger memory gets its own (a Hann window is made with one sample more)."""
    for name, tensor in module.state_dict(keep_vars=True).items():
        if tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size() and not isinstance(
            tensor, nn.Parameter
        ):
            set_attribute(module, name, tensor.clone())


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
    recorder = _Recorder(captured.graph_module)
    with torch.no_grad():
        recorder.run(*captured.example_inputs)
    return replace(captured, shapes=recorder.shapes, numbers=recorder.numbers)


def symbols(captured: Captured) -> dict[str, list[tuple[int, int]]]:
    """Dynamic sizes by their name in the graph: where each stands, as (input, dimension)."""
    nodes = [node for node in captured.graph_module.graph.nodes if node.op == "placeholder"]
    found: dict[str, list[tuple[int, int]]] = {}
    for index, (node, dynamic) in enumerate(zip(nodes, captured.dynamic, strict=True)):
        for dim in sorted(dynamic):
            value = node.meta.get("val")
            name = str(value.shape[dim]) if isinstance(value, Tensor) else f"{node.name}.{dim}"
            found.setdefault(name, []).append((index, dim))
    return found


def other_inputs(captured: Captured, scale: Callable[[int, int], int], only: str | None = None) -> tuple[Any, ...]:
    """Random inputs of other sizes: ``scale(dim, size)`` for each dynamic size (or only for the one named)."""
    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    shapes = [list(leaf.shape) if isinstance(leaf, Tensor) else [] for leaf in leaves]
    for name, places in symbols(captured).items():
        if only is None or name == only:
            new = scale(places[0][1], shapes[places[0][0]][places[0][1]])
            for index, dim in places:
                shapes[index][dim] = new
    changed = [
        _like(leaf, shape) if isinstance(leaf, Tensor) else leaf for leaf, shape in zip(leaves, shapes, strict=True)
    ]
    return tuple(pytree.tree_unflatten(changed, spec))


def _like(leaf: Tensor, shape: list[int]) -> Tensor:
    """Values of the example's own kind at another shape, always the same ones."""
    generator = torch.Generator().manual_seed(sum(shape))
    if leaf.is_floating_point():
        deviation = float(leaf.std()) if leaf.numel() > 1 else 0.0
        return torch.randn(shape, generator=generator).to(leaf.dtype) * (deviation or 0.1)
    flat = leaf.reshape(-1)
    picks = torch.randint(0, flat.numel(), (torch.Size(shape).numel(),), generator=generator)
    return flat[picks].reshape(shape)


def smaller(dim: int, size: int) -> int:
    """Another size for a dynamic dimension: one more in the batch, three quarters elsewhere."""
    return size + 1 if dim == 0 else max(2, size * 3 // 4)


def _proved_dynamic(captured: Captured, reference: nn.Module) -> Captured:
    """Keep a dimension dynamic only if graph and model agree at another size of it; say why where it is not."""
    notes: list[str] = []
    fixed: set[tuple[int, int]] = set()
    for name, places in symbols(captured).items():
        index, dim = places[0]
        inputs = other_inputs(captured, smaller, only=name)
        problem = _compare(captured, reference, inputs)
        if problem:
            fixed |= set(places)
            notes.append(f"input {index}: dimension {dim} stays {_extent(captured, index, dim)}: {problem}")
    for index, (x, dynamic) in enumerate(
        zip(pytree.tree_leaves(captured.example_inputs), captured.dynamic, strict=True)
    ):
        if isinstance(x, Tensor) and x.dim() > 1:
            notes += [
                f"input {index}: dimension {dim} stays {x.shape[dim]}: the model's code fixes it"
                for dim in (0, x.dim() - 1)
                if dim not in dynamic
            ]
    kept = tuple(
        frozenset(dim for dim in dims if (index, dim) not in fixed) for index, dims in enumerate(captured.dynamic)
    )
    return replace(captured, dynamic=kept, notes=(*captured.notes, *dict.fromkeys(notes)))


def _extent(captured: Captured, index: int, dim: int) -> int:
    return int(pytree.tree_leaves(captured.example_inputs)[index].shape[dim])


def _compare(captured: Captured, reference: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Why another size is not possible; empty where graph and model agree (also where both draw the same noise)."""
    try:
        wanted = _seeded(reference, inputs)
    except Exception:
        return "the model runs at no other size tried"
    try:
        worst = max_difference(_seeded(captured.graph_module, inputs), wanted)
    except Exception as error:
        return f"the captured graph fails at another ({type(error).__name__})"
    return "" if worst <= 1e-4 else f"the captured graph differs at another (by {worst:.1e})"


def _seeded(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(*copy.deepcopy(inputs))


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


def _spec(inputs: tuple[Any, ...], dynamic: tuple[frozenset[int], ...]) -> Any:
    leaves, spec = pytree.tree_flatten(inputs)
    dims = [{dim: Dim.AUTO for dim in sorted(which)} or None for which in dynamic]
    return pytree.tree_unflatten(dims[: len(leaves)], spec)
