"""Torch-Pruning's view of a model: which layers it may touch without breaking the model, and its attention heads.

The user of that library says by hand which layers to leave alone (``ignored_layers``). Here every group is tried by
itself: one unit is pruned on a copy, and the group is left alone if the copy does not run, returns another shape, or
returns something else than the original whose weights for that unit are zero.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.quality.peers.tuning import Unsupported

CONSUMERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
ROOTS = (nn.modules.conv._ConvNd, nn.Linear, nn.LSTM)
COUPLED = (nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention)
QUERY_KEY_VALUE = ("query", "key", "value", "q", "k", "v", "q_proj", "k_proj", "v_proj", "qkv", "to_q", "to_k", "to_v")


@dataclass(frozen=True)
class View:
    """What may be pruned.

    Attributes:
        ignored: names of layers to leave alone, each with the reason.
        heads: number of heads by name of a query, key or value layer.
    """

    ignored: dict[str, str]
    heads: dict[str, int]

    def pruner(self, model: nn.Module, inputs: tuple[Any, ...], make: Callable[..., Any], **options: Any) -> Any:
        """A pruner of the model; its defaults are dictionaries that all pruners share, so each gets its own."""
        return make(
            model,
            inputs,
            ignored_layers=[model.get_submodule(name) for name in self.ignored],
            num_heads={model.get_submodule(name): count for name, count in self.heads.items()},
            in_channel_groups={},
            out_channel_groups={},
            **options,
        )


@contextmanager
def tracing() -> Iterator[None]:
    """That library warns about every parameter that no layer owns."""
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield


def attention_heads(model: nn.Module) -> dict[str, int]:
    """Heads of every query, key and value layer, from an attribute ``heads`` or ``num_heads`` of the module above."""
    found = {}
    for name, module in model.named_modules():
        heads = next((x for key in ("num_heads", "heads") if isinstance(x := getattr(module, key, None), int)), None)
        if heads and not isinstance(module, nn.MultiheadAttention):
            for child, layer in module.named_children():
                if child in QUERY_KEY_VALUE and isinstance(layer, nn.Linear):
                    found[f"{name}.{child}" if name else child] = heads
    return found


def examine(model: nn.Module, inputs: tuple[Any, ...]) -> View:
    """Try every group of a model on a copy.

    Raises:
        Unsupported: no graph can be made of the model.
    """
    heads, ignored = attention_heads(model), {}
    names = {module: name for name, module in model.named_modules()}
    try:
        with tracing():
            graph = tp.DependencyGraph().build_dependency(model, example_inputs=inputs)
    except Exception as error:
        raise Unsupported(f"Torch-Pruning cannot trace the model: {type(error).__name__}: {error}") from error
    for module in [module for module in graph.module2node if isinstance(module, ROOTS)]:
        pruner = graph.get_pruner_of_module(module)
        try:
            graph.get_pruning_group(module, pruner.prune_out_channels, list(range(pruner.get_out_channels(module))))
        except Exception as error:
            ignored[names[module]] = f"no group can be made of it ({type(error).__name__}: {error})"
    broken = [model.get_submodule(name) for name in ignored]
    groups = list(graph.get_all_groups(ignored_layers=broken, root_module_types=list(ROOTS)))
    roots = {names[group[0].dep.target.module]: len(group[0].idxs) for group in groups}
    unreadable = dict(ignored)
    for root, size in roots.items():
        others = {**unreadable, **dict.fromkeys((name for name in roots if name != root), "another group")}
        if reason := _trial(model, inputs, View(others, heads), size):
            ignored[root] = reason
    if len(ignored) == len(unreadable) + len(roots):
        raise Unsupported("Torch-Pruning can prune no group of the model: " + describe(ignored))
    return View(ignored, heads)


def describe(ignored: dict[str, str]) -> str:
    """The layers that are left alone, with reasons."""
    return "; ".join(f"{name}: {reason}" for name, reason in ignored.items())


def _trial(model: nn.Module, inputs: tuple[Any, ...], view: View, size: int) -> str:
    """Prune one unit of the only group that is left; returns what is wrong, or nothing."""
    pruned, masked = copy.deepcopy(model), copy.deepcopy(model)
    try:
        with tracing():
            importance = tp.importance.GroupMagnitudeImportance()
            # half a unit is rounded up to one, with heads to one of each
            pruner = view.pruner(pruned, inputs, tp.pruner.BasePruner, importance=importance, pruning_ratio=0.5 / size)
            names = {module: name for name, module in pruned.named_modules()}
            comparable, removed = True, 0
            for group in pruner.step(interactive=True):
                removed += 1
                comparable &= _mask(masked, pruner.DG, group, names, view.heads)
                group.prune()
        if not removed:
            return "no unit can be pruned"
        with torch.no_grad():
            small, wanted = _outputs(pruned, inputs), _outputs(masked, inputs)
    except Exception as error:
        return f"fails with {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if [x.shape for x in small] != [x.shape for x in wanted]:
        return "changes the output's shape"
    if comparable and not all(torch.allclose(x, y, rtol=1e-3, atol=1e-4) for x, y in zip(small, wanted, strict=True)):
        return "runs, but computes something else than the model without that unit"
    return ""


def _mask(model: nn.Module, graph: Any, group: Any, names: dict[nn.Module, str], heads: Any) -> bool:
    """Zero what reads the units of a group; False where other layers of it feel the units, so that zero is not absence."""
    comparable = True
    for dep, indices in group:
        name = names.get(dep.target.module)
        if name is None:
            continue
        layer = model.get_submodule(name)
        if isinstance(layer, COUPLED) or name in heads:
            comparable = False
        if graph.is_in_channel_pruning_fn(dep.handler) and not graph.is_out_channel_pruning_fn(dep.handler):
            if not isinstance(layer, CONSUMERS) or getattr(layer, "groups", 1) != 1:
                comparable = False
            elif getattr(layer, "transposed", False):
                layer.weight.data[indices] = 0.0
            else:
                layer.weight.data[:, indices] = 0.0
    return comparable


def _outputs(model: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor]:
    return [x for x in tree_leaves(model.eval()(*inputs)) if isinstance(x, Tensor)]
