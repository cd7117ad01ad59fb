"""Capture: one ATen graph for every model, with ``torch.export``.

The routes that were measured to work most often are tried in order; the error of the first names the user's own line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from shrinkspeech.errors import CaptureError, InputError, NotRunningError
from shrinkspeech.graph import stand_ins
from shrinkspeech.graph.agreement import require_agreement
from shrinkspeech.graph.batch import double_batch, doubt
from shrinkspeech.graph.calls import plain_program, prepare, unwrap_inside, unwrapped
from shrinkspeech.graph.captured import Captured, dynamic_spec, recorded, set_attribute
from shrinkspeech.graph.evaluation import evaluated
from shrinkspeech.graph.fixed import fix_sizes
from shrinkspeech.graph.frozen import freeze_unfelt
from shrinkspeech.graph.functions import OwnFunction, kept, lost, own_functions
from shrinkspeech.graph.modes import trainable
from shrinkspeech.graph.normalise import normalise
from shrinkspeech.graph.pairs import with_states
from shrinkspeech.graph.proof import Trials, proved_dynamic
from shrinkspeech.graph.quiet import quiet
from shrinkspeech.graph.repeats import merge_repeats
from shrinkspeech.graph.routes import ALL, BATCH, ENDS, NOTHING, notes_of, spec_of
from shrinkspeech.graph.swift import swift


def capture(
    model: nn.Module | ExportedProgram, example_inputs: Sequence[Any] | None = None, states: Sequence[str] = ()
) -> Captured:
    """Capture a model in eval mode.

    Args:
        model: a module, or a program that is exported already (then its own example inputs serve if none are given).
        example_inputs: one tensor for each positional input, batch first, for instance ``(torch.zeros(2, 16000),)``.
            A batch of one is doubled, so that the batch can be dynamic.
        states: pairs ``input:output`` of what the model returns to be given back, where they are not found; ``none`` for none.

    Raises:
        InputError: ``states`` names no input or output, or two that do not fit.
        NotRunningError: the model does not run on the example inputs.
        CaptureError: no route through ``torch.export`` works (the message holds the first route's own words), or the graph
            differs from the model on the example inputs.
    """
    if isinstance(model, ExportedProgram):
        inputs = _program_inputs(model, example_inputs)
        return _from_program(model, inputs, (), None, states)[0]
    if example_inputs is None:
        raise CaptureError("a module needs example inputs: pass one tensor for each of its inputs")
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError("TorchScript cannot be captured: give the module that it was made from")
    inputs = tuple(example_inputs)
    module = copied(unwrapped(model)).cpu().eval()
    unwrap_inside(module)
    _refuse_names(module)
    merge_parametrisations(module)
    prepare(module, inputs)
    doubled = double_batch(module, inputs)
    functions, outputs = _first_run(module, doubled, inputs)
    failures: list[str] = []
    refusals: list[CaptureError] = []
    for strict in (False, True):
        for example, every in ((doubled, ALL), (doubled, ENDS), (doubled, BATCH), (inputs, NOTHING)):
            try:
                with kept(() if strict else functions):
                    program = _exported(module, example, spec_of(example, every), strict)
                    notes = (*notes_of(strict, every), *lost(functions, all_of_them=strict))
                    wanted = outputs if example is doubled else None
                    found = _from_program(program, example, notes, module, states, wanted)
                    return _with_fixed_sizes(found, module, strict, states)
            except InputError:
                raise
            except CaptureError as error:
                refusals.append(error)
            except Exception as error:
                failures.append(f"{type(error).__name__}: {str(error).strip()[:600]}")
    if refusals:
        raise refusals[0]
    fixed = f"; with fixed sizes: {failures[3]}" if failures[3] != failures[0] else ""
    raise CaptureError(f"torch.export cannot capture {type(model).__name__}: {failures[0]}{fixed}")


def _refuse_names(model: nn.Module) -> None:
    """A graph module has properties of its own (``code``), which hide what the model calls so.

    Raises:
        CaptureError: the model has such a name at its top.
    """
    top = (*dict(model.named_children()), *model._parameters, *model._buffers)
    own = fx.GraphModule(nn.Module(), fx.Graph())
    taken = [name for name in top if hasattr(own, name)]
    if taken:
        raise CaptureError(
            f"'{taken[0]}' of {type(model).__name__} is a name that torch's graph modules keep for themselves: rename "
            "it, or put the model into another (self.model = model), where it does no harm"
        )


def _first_run(
    module: nn.Module, doubled: tuple[Any, ...], inputs: tuple[Any, ...]
) -> tuple[tuple[OwnFunction, ...], Any]:
    """The model's own functions, and what it returns for the doubled inputs; None where that is not known.

    Raises:
        NotRunningError: it runs on neither.
    """
    try:
        with quiet():
            functions, outputs = own_functions(module, doubled)
        return functions, None if functions else outputs
    except Exception as first:
        if doubled is inputs:
            raise NotRunningError(f"{type(module).__name__} does not run on its example inputs: {first}") from first
    try:
        with quiet():
            return own_functions(module, inputs)[0], None
    except Exception as error:
        raise NotRunningError(f"{type(module).__name__} does not run on its example inputs: {error}") from error


def _with_fixed_sizes(
    found: tuple[Captured, Trials], module: nn.Module, strict: bool, states: Sequence[str]
) -> Captured:
    """The capture with the sizes fixed that turned out not to be dynamic: numbers stand where symbols stood.

    Where numbers in the graph do not do, which no model is known for, the model is exported once more.
    """
    captured, trials = found
    fixed = fix_sizes(captured)
    if fixed is captured or trials.holds(fixed):
        return fixed
    spec = dynamic_spec(captured.example_inputs, captured.dynamic)
    program = _exported(module, captured.example_inputs, spec, strict)
    return replace(
        _from_program(program, captured.example_inputs, captured.notes, module, states)[0], notes=captured.notes
    )


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that holds computed tensors (the old ``weight_norm`` keeps its weight as one)."""
    computed = [x for child in model.modules() for x in vars(child).values() if isinstance(x, Tensor) and not x.is_leaf]
    return copy.deepcopy(model, {id(x): x.detach().clone() for x in computed})


def _exported(module: nn.Module, inputs: tuple[Any, ...], spec: Any, strict: bool) -> ExportedProgram:
    # torch.export marks the sizes of its inputs as dynamic, and where it fails it leaves the marks to the next route.
    fresh = pytree.tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, inputs)
    with stand_ins.tracing(), quiet(), counting_modules(), swift():
        program = torch.export.export(module, fresh, dynamic_shapes=spec, strict=strict)
    stand_ins.restore(program.graph_module)
    return program


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


def merge_parametrisations(module: nn.Module) -> None:
    """Weight norm (both APIs) and other parametrisations become plain weights, in place; frozen ones stay frozen."""
    from torch.nn.utils import parametrize

    for child in module.modules():
        if parametrize.is_parametrized(child):
            # A deep copy shares its class with the original, and folding deletes the weight's property from that class.
            kind = type(child)
            child.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name, parts in list(child.parametrizations.items()):  # type: ignore[operator, union-attr]
                learns = any(parameter.requires_grad for parameter in parts.parameters())
                parametrize.remove_parametrizations(child, name, leave_parametrized=True)
                getattr(child, name).requires_grad_(learns)
        for key, hook in list(child._forward_pre_hooks.items()):
            if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):
                parts = [p for name, p in child.named_parameters(recurse=False) if name.startswith(f"{hook.name}_")]  # type: ignore[attr-defined]
                hook.remove(child)  # type: ignore[attr-defined]
                getattr(child, hook.name).requires_grad_(any(p.requires_grad for p in parts))  # type: ignore[attr-defined]
                del child._forward_pre_hooks[key]


def _program_inputs(program: ExportedProgram, given: Sequence[Any] | None) -> tuple[Any, ...]:
    if given is not None:
        return tuple(given)
    if program.example_inputs is None or program.example_inputs[1]:
        raise CaptureError("this program brings no positional example inputs: pass them, or give --example")
    return tuple(program.example_inputs[0])


def _from_program(
    program: ExportedProgram,
    inputs: tuple[Any, ...],
    notes: tuple[str, ...],
    module: nn.Module | None,
    states: Sequence[str],
    wanted: Any = None,
) -> tuple[Captured, Trials]:
    """The captured program, and the runs that proved what of it is dynamic.

    Args:
        states: what the user says of them.
        wanted: what the module returns for the inputs, where that is known.
    """
    graph_module = trainable(_own(program) if module is None else program.module())
    graph_module.meta = {}
    _compact(graph_module)
    normalise(graph_module)
    freeze_unfelt(graph_module)
    notes += evaluated(graph_module, in_evaluation=module is not None)
    merge_repeats(graph_module)
    dynamic = tuple(
        frozenset(i for i, size in enumerate(value.shape) if not is_concrete_int(size))
        if isinstance(value, Tensor)
        else frozenset()
        for value in (node.meta.get("val") for node in graph_module.graph.nodes if node.op == "placeholder")
    )
    captured, outputs = recorded(Captured(graph_module, inputs, dynamic, {}, notes=notes))
    reference = _in_evaluation(program) if module is None else module
    require_agreement(captured, reference, outputs, wanted)
    captured = with_states(captured, states)
    trials = Trials(captured, reference, outputs)
    proved = proved_dynamic(trials)
    time_first = doubt(proved, outputs)
    return replace(proved, notes=(*proved.notes, *filter(None, [time_first])), time_first=time_first), trials


def _own(program: ExportedProgram) -> fx.GraphModule:
    """A program as a module with tensors of its own: the user's program stays as it is, whatever is run or trained here."""
    module = copy.deepcopy(program.module())
    plain_program(module)
    return module


def _in_evaluation(program: ExportedProgram) -> nn.Module:
    module = trainable(_own(program))
    evaluated(module, in_evaluation=False)
    return module


def _compact(module: nn.Module) -> None:
    """A tensor whose elements do not lie in their order (``bank.T``), a window into a larger memory (a Hann window is made
    with one sample more), or one that repeats a smaller (``expand``) gets memory of its own."""
    packed: dict[int, Tensor] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        own = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        learned = isinstance(tensor, nn.Parameter)
        if not tensor.is_contiguous() or not (own or learned):
            values = tensor.detach().clone(memory_format=torch.contiguous_format)
            fresh = nn.Parameter(values, tensor.requires_grad) if learned else values
            set_attribute(module, name, packed.setdefault(id(tensor), fresh))
