"""What of a model is captured: what lies inside of wrappers, called with one tensor for each input, returning plain tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, Signature, signature
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

RETURNED = ("logits", "embeddings", "last_hidden_state")
"""Fields of a transformers.ModelOutput, the one to be had first: scores, a speaker's vector beside them, or features."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of what training wraps around it: several devices, an average of weights, ``torch.compile``."""
    from torch.optim.swa_utils import AveragedModel

    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
    while (inner := model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)) is not None:
        model = inner
    return model


def unwrap_inside(model: nn.Module) -> None:
    """The same for every module of a model, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (inner := unwrapped(child)) is not child:
                setattr(parent, name, inner)


Call = Callable[[Callable[..., Any], tuple[Any, ...]], Any]
"""From a module's own forward, and inputs by position, to what is to be returned."""


def recast(model: nn.Module, parameters: Sequence[str], call: Call) -> None:
    """Give a module, in place, a forward of these parameters that returns what ``call`` makes of its own.

    Not by a module around it: names of its tensors, and its place in a graph, stay what they are.
    """
    kind, bound = type(model), vars(model).pop("forward", None)

    def forward(self: nn.Module, *inputs: Any) -> Any:
        return call(partial(kind.forward, self) if bound is None else bound, inputs)

    taken = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *parameters)]
    forward.__signature__ = Signature(taken)  # type: ignore[attr-defined]
    same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    model.__class__ = type(kind.__name__, (kind,), {**same, "forward": forward})


def prepare(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Make a module's forward, in place, one that can be captured: a parameter for each input also where it takes ``*args``,
    for such inputs can have dynamic dimensions, and tensors where it returns a record of transformers."""
    taken = list(signature(model.forward).parameters.values())
    named = [p.name for p in taken if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in taken if p.kind is Parameter.VAR_POSITIONAL), "input")
    records = _records()
    if len(inputs) > len(named) or records is not None:
        names = [*named[: len(inputs)], *(f"{rest}_{i}" for i in range(len(inputs) - len(named)))]
        recast(model, names, lambda forward, values: plain(forward(*values), records))


def by_name(model: nn.Module, count: int, names: Sequence[str]) -> None:
    """Let a module take ``count`` inputs by position, and after them those of these names, in place."""
    taken = list(signature(model.forward).parameters.values())[:count]
    first = [p.name for p in taken if p.kind is not Parameter.VAR_POSITIONAL]
    first += [f"input_{i}" for i in range(len(first), count)]

    def call(forward: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        return forward(*values[:count], **dict(zip(names, values[count:], strict=True)))

    recast(model, [*first, *names], call)


def plain(returned: Any, records: type | None) -> Any:
    """What a model returns, with tensors in the place of records: the scores, or else the features; a dictionary of both where
    a speaker's vector stands beside scores.

    Records of transformers would be named in the graph, so that whoever loads it would need transformers.
    """
    if records is not None and isinstance(returned, records):
        fields = {name: x for name, x in returned.items() if isinstance(x, Tensor | fx.Node)}  # type: ignore[attr-defined]
        found = {name: fields[name] for name in RETURNED if name in fields} or fields
        return next(iter(found.values())) if len(found) == 1 or "embeddings" not in found else found
    if type(returned) in (list, tuple):
        return type(returned)([plain(x, records) for x in returned])
    return returned


def plain_program(module: fx.GraphModule) -> None:
    """The same for a program that was exported with a record as what it returns, in place."""
    records, codegen = _records(), module.graph._codegen
    info = getattr(codegen, "pytree_info", None)
    if records is None or info is None or info.out_spec is None:
        return
    output = next(node for node in module.graph.nodes if node.op == "output")
    nodes = list(output.args[0]) if isinstance(output.args[0], list | tuple) else [output.args[0]]
    returned = pytree.tree_unflatten(nodes, info.out_spec)
    leaves, spec = pytree.tree_flatten(plain(returned, records))
    if spec == info.out_spec:
        return
    output.args = (tuple(leaves),)
    codegen.pytree_info = info._replace(out_spec=spec)  # type: ignore[attr-defined]
    module.graph.eliminate_dead_code()
    module.recompile()


def _records() -> type | None:
    """``transformers.ModelOutput``, where transformers is loaded: nobody else can have made one."""
    return getattr(sys.modules.get("transformers.utils"), "ModelOutput", None)
