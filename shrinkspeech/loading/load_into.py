"""Put a small model back into its owner's own module: same class, same names, smaller tensors.

model = MyModel()                                  # as it was built for training
shrinkspeech.load_into(model, "run/")              # now it is the small model, to train on or to export by other means
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.errors import InputError
from shrinkspeech.graph.agreement import TOLERANCE, first_difference
from shrinkspeech.graph.calls import by_name, prepare, unwrap_inside, unwrapped
from shrinkspeech.graph.capture import copied, merge_parametrisations
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference, seeded
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label
from shrinkspeech.loading.heads import fit_heads
from shrinkspeech.loading.layers import Use, resize
from shrinkspeech.loading.load import load
from shrinkspeech.loading.usercode import blame


@dataclass(frozen=True)
class LoadedInto:
    """What became of a model.

    Attributes:
        difference: from the run's graph on its example, relative to the largest output.
        notes: what the user should know, in sentences: units of zero, weights that the graph does not have.
    """

    difference: float
    notes: tuple[str, ...] = ()


def load_into(model: nn.Module, run: str | Path | Captured) -> LoadedInto:
    """Give a model the widths and weights of a run, in place; parametrisations such as weight norm become plain weights.

    The layers of ``torch.nn`` get their small tensors and say so in their attributes (``out_features``, ``groups``,
    ``num_heads`` …); so do attention modules that keep ``num_heads`` and ``head_dim`` under one of the usual names. What else
    a model's own code knows of its widths is not changed: a copy is run and compared with the run's graph first.

    Args:
        model: as it was captured; its own weights do not matter.
        run: a folder that ``fit`` wrote, a ``.pt2``, or a captured model such as ``fitted.captured``.

    Raises:
        InputError: the widths cannot be put into the model, or it does not compute what the graph does; the message names the
            module, and the model is as it was.
    """
    captured = run if isinstance(run, Captured) else load(_program(Path(run)))
    inner, groups = unwrapped(model), label(captured)
    trial = copied(inner).cpu().eval()
    unwrap_inside(trial)
    notes = _put(trial, captured, groups, run)
    difference = _compared(trial, captured, run)
    unwrap_inside(inner)
    _put(inner, captured, groups, run)
    return LoadedInto(difference, notes)


def _program(run: Path) -> Path:
    """The ``.pt2`` of a run folder, or the file itself.

    Raises:
        InputError: the folder is no run.
    """
    if run.is_dir() and not (run / "model.pt2").is_file():
        raise InputError(f"{run} is no run: there is no model.pt2 in it, which a fit writes")
    return run / "model.pt2" if run.is_dir() else run


# ------------------------------------------------------------------------------------------------------ in place


def _put(model: nn.Module, captured: Captured, groups: Groups, run: Any) -> tuple[str, ...]:
    """Change a model; what the user should know of it."""
    merge_parametrisations(model)
    tensors, modules = _tensors(model, captured, run), dict(model.named_modules())
    uses, notes, shared = _uses(captured), [], dict[int, nn.Parameter]()
    for path, module in modules.items():
        with _named(path, module, run):
            notes.append(fit_heads(module, path, tensors, groups))
    for path, module in modules.items():
        own = {name: tensors[full] for name in _names(module) if (full := f"{path}.{name}".lstrip(".")) in tensors}
        with _named(path, module, run):
            resize(module, own, uses.get(path))
        for name, x in own.items():
            _replace(module, name, x, shared)
    unread = [name for name, _ in model.named_parameters() if name not in tensors]
    if unread:
        more = ", …" if len(unread) > 3 else ""
        notes.append(f"{', '.join(unread[:3])}{more} stay as they are: the graph does not use them")
    return tuple(filter(None, notes))


def _tensors(model: nn.Module, captured: Captured, run: Any) -> dict[str, Tensor]:
    """The small tensors that the model has a place for.

    Raises:
        InputError: it has none for one of the weights.
    """
    own: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    own |= dict(model.named_buffers(remove_duplicate=False))
    found = captured.parameters()
    missing = [name for name, x in found.items() if isinstance(x, nn.Parameter) and name not in own]
    if missing:
        raise InputError(
            f"{type(model).__name__} has no {missing[0]} ({len(missing)} of {len(found)} tensors are missing): give the model "
            f"that {_text(run)} was made from"
        )
    once = {id(own[name]): x.detach() for name, x in found.items() if name in own}
    return {name: once[id(x)] for name, x in own.items() if id(x) in once}


def _uses(captured: Captured) -> dict[str, Use]:
    """The operator of each module that knows its number of groups, or the shape that it normalises over."""
    names = ("conv", "batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")
    nodes = [node for node in captured.graph_module.graph.nodes if node.op == "call_function"]
    found = [node for node in nodes if str(node.target.__name__).startswith(names)]
    return {captured.module_of(node): Use(node, captured.shapes[node.args[0].name][0][1]) for node in found}


def _names(module: nn.Module) -> list[str]:
    """Of its own parameters and buffers."""
    return [name for name, x in (*module._parameters.items(), *module._buffers.items()) if x is not None]


def _replace(module: nn.Module, name: str, x: Tensor, shared: dict[int, nn.Parameter]) -> None:
    """A new tensor under a name; one that stands under several names stays one."""
    old: Any = getattr(module, name)
    fresh = x.to(device=old.device, dtype=old.dtype).clone()
    if isinstance(old, nn.Parameter):
        setattr(module, name, shared.setdefault(id(old), nn.Parameter(fresh, old.requires_grad)))
        shared.setdefault(id(getattr(module, name)), getattr(module, name))
    else:
        module._buffers[name] = fresh


@contextmanager
def _named(path: str, module: nn.Module, run: Any) -> Iterator[None]:
    """Whatever is refused inside is said of the module."""
    try:
        yield
    except InputError as error:
        raise InputError(_refusal(f"{path or 'the model'} ({type(module).__name__})", str(error), run)) from error


def _refusal(where: str, why: str, run: Any) -> str:
    return (
        f"the widths of {_text(run)} cannot be put into {where}: {why}; go on with its own graph, which needs no code: "
        "torch.export.load('model.pt2').module()"
    )


def _text(run: Any) -> str:
    return "the run" if isinstance(run, Captured) else str(run)


# --------------------------------------------------------------------------------------------------------- proof


def _compared(model: nn.Module, captured: Captured, run: Any) -> float:
    """How far the changed model is from the graph on its example.

    Raises:
        InputError: it does not run, or is further than rounding explains.
    """
    inputs = captured.example_inputs
    _called_as(model, captured)
    running: list[tuple[str, nn.Module]] = []
    try:
        with _watched(model, running):
            found = seeded(model, inputs)
    except Exception as error:
        path, module = running[-1] if running else ("", model)
        where = f"{path or 'the model'} ({type(module).__name__})"
        raise InputError(_refusal(where, f"it does not run with them ({blame(error)})", run)) from error
    difference = max_difference(found, seeded(captured.graph_module, inputs))
    if difference <= TOLERANCE:
        return difference
    where = first_difference(captured, model) or type(model).__name__
    raise InputError(
        _refusal(where, f"it computes something else then, off by {difference:.1e} of the largest output", run)
    )


def _called_as(model: nn.Module, captured: Captured) -> None:
    """Let a model take its inputs as the graph does, in place."""
    nodes = [str(node.target) for node in captured.graph_module.graph.nodes if node.op == "placeholder"]
    taken = list(signature(model.forward).parameters.values())
    first = [p.name for p in taken if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    count = len(captured.example_inputs)
    flat = len(pytree.tree_leaves(captured.example_inputs)) == count == len(nodes)
    behind = next((i for i, name in enumerate(nodes) if i >= len(first) or (name != first[i] and name in first)), count)
    if flat and behind < count and not any(p.kind is Parameter.VAR_POSITIONAL for p in taken):
        by_name(model, behind, nodes[behind:])
    prepare(model, captured.example_inputs)


@contextmanager
def _watched(model: nn.Module, running: list[tuple[str, nn.Module]]) -> Iterator[None]:
    """Inside, ``running`` holds the modules that have begun and not ended, the innermost last."""
    handles: list[Any] = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, one=(path, module): running.append(one)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
