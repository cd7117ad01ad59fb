"""What nodes without a rule cost: torch's own formulas, over whatever torch takes their operators apart into.

Each node is run once, on the example. An operator that torch has a formula for (``torch.utils.flop_counter``) is counted by
it, one that can be taken apart by its parts. Of those that are left, one that works on elements, moves or compares them costs
nothing, as it does with a rule. Any other may hide a contraction (an operator of the user's own, a distance, a solver), and
nobody can count it: it is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._decomp import decomposition_table
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.quiet import quiet
from shrinkspeech.graph.state import undisturbed
from shrinkspeech.rules.registry import rule_for

aten = torch.ops.aten


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a node for the example input, and the operators in it that nobody can count."""

    flops: float = 0.0
    uncounted: tuple[str, ...] = ()


def work_of(captured: Captured, nodes: Collection[fx.Node]) -> Mapping[fx.Node, Work]:
    """What some nodes of a graph cost."""
    names = {node.name: node for node in nodes if node.op == "call_function"}
    if not names:
        return {}
    worker = _Worker(captured.graph_module, names)
    with torch.no_grad(), quiet(), undisturbed(captured.graph_module), torch.random.fork_rng(devices=[]):
        worker.run(*_copied(captured.example_inputs))
    return worker.found


class _Worker(fx.Interpreter):
    """Runs a graph, and some of its nodes twice: once to be counted, on copies of what they are given."""

    def __init__(self, module: fx.GraphModule, names: Mapping[str, fx.Node]) -> None:
        super().__init__(module)
        self.names = names
        self.found: dict[fx.Node, Work] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.names:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.found[self.names[n.name]] = _counted(n.target, _copied(args), _copied(kwargs))
        return super().run_node(n)


def _copied(values: Any) -> Any:
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, values)


def _counted(target: Any, args: Any, kwargs: Any) -> Work:
    counter = _Counter()
    try:
        with torch.backends.mkldnn.flags(enabled=False), counter:  # else a recurrent layer is one opaque call
            target(*args, **kwargs)
    except Exception:  # whatever an operator does not like about being taken apart
        return Work(uncounted=(str(target),))
    return Work(counter.flops, tuple(dict.fromkeys(counter.uncounted)))


def _vectors(a: Any, b: Any, *_: Any, **__: Any) -> int:
    """A matrix, or a vector, times a vector: torch has a formula for matrices alone."""
    return 2 * int(a.numel())


def _three(a: Any, b: Any, c: Any, added_a: Any, added_b: Any, added_c: Any, summed: Any, *_: Any, **__: Any) -> int:
    """Three tensors, each without the dimensions that are added to it, multiplied and summed from left to right."""
    rank = a.dim() + len(added_a)
    size: dict[int, int] = {}
    for tensor, added in ((a, added_a), (b, added_b), (c, added_c)):
        own = (dim for dim in range(rank) if dim not in added)
        size |= dict(zip(own, tensor.shape, strict=True))
    first = [size[dim] for dim in range(rank) if dim not in added_a or dim not in added_b]
    second = [size[dim] for dim in range(rank) if dim not in added_c or dim not in summed]
    return 2 * (math.prod(first) + math.prod(second))


OWN: Mapping[Any, Callable[..., int]] = {
    **dict.fromkeys((aten.mv.default, aten.dot.default, aten.vdot.default), _vectors),
    aten._trilinear.default: _three,
}


class _Counter(TorchDispatchMode):
    """Takes operators apart while they run, and counts those that torch has a formula for."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0
        self.uncounted: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._branches(*args) if func is torch.ops.higher_order.cond else self._opaque(func, args, kwargs)
        formula = OWN.get(func) or flop_registry.get(func._overloadpacket)
        if formula is not None:
            result = func(*args, **kwargs)
            self.flops += formula(*args, **kwargs, out_val=result)
            return result
        with self:
            result = func.decompose(*args, **kwargs)
            if result is NotImplemented and not free(func) and func in decomposition_table:
                result = decomposition_table[func](*args, **kwargs)
        if result is not NotImplemented:
            return result
        return func(*args, **kwargs) if free(func) else self._opaque(func, args, kwargs)

    def _opaque(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.uncounted.append(str(func))
        return func(*args, **kwargs)

    def _branches(self, _which: Any, first: Any, second: Any, operands: Any) -> Any:
        """Of the two bodies of a ``cond`` the one that costs more: which is taken is not known before."""
        results, counters = [], (_Counter(), _Counter())
        for body, counter in zip((first, second), counters, strict=True):
            with counter:
                results.append(body(*operands))
            self.uncounted += counter.uncounted
        self.flops += max(counter.flops for counter in counters)
        return results[0]


def free(operator: OpOverload) -> bool:
    """Whether one of torch's operators, which cannot be taken apart, costs at most a few operations an element.

    Those that have a rule and are no contraction are; for the rest torch's own marks tell, or the list above.
    """
    if operator.namespace == "prims":
        return operator not in (torch.ops.prims.svd.default,)
    if operator.namespace != "aten":
        return False
    schema = operator._schema
    given, returned = (
        [item for item in items if "Tensor" in str(item.type)] for items in (schema.arguments, schema.returns)
    )
    views = any(item.alias_info is not None and not item.alias_info.is_write for item in returned)
    marked = {torch.Tag.pointwise, torch.Tag.reduction, torch.Tag.inplace_view} & set(operator.tags)
    name = schema.name.removeprefix("aten::").rstrip("_")
    return not given or not returned or views or bool(marked) or rule_for(operator) is not None or name in PLAIN


PLAIN = frozenset(
    """
    _adaptive_avg_pool3d _add_relu _embedding_bag _embedding_bag_forward_only _fft_c2c _fft_c2r _fft_r2c _masked_scale
    _pack_padded_sequence _unique _unique2 _upsample_bicubic2d_aa _upsample_bilinear2d_aa avg_pool3d bincount cummax cummin
    fractional_max_pool2d grid_sampler_2d grid_sampler_3d histc index_put index_reduce kthvalue masked_scatter masked_select
    median mode multinomial nanmedian nonzero nonzero_static poisson quantize_per_tensor repeat_interleave resize resize_as
    rrelu_with_noise scatter scatter_add scatter_reduce searchsorted segment_reduce sort unique_consecutive unique_dim
    """.split()
)
"""Operators that move, compare, sort or resample elements, and Fourier transforms, which no budget counts."""
