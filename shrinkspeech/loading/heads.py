"""Attention in a user's own module: its heads, their width, and units of zero where a module wants equal widths.

In a graph the values of a head may be narrower than its keys, and in a ``torch.nn.MultiheadAttention`` heads × width is
embed_dim. Units whose weights are zero change nothing: they fill what a module cannot have smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from shrinkspeech.axes.algebra import Axis, Product
from shrinkspeech.errors import InputError
from shrinkspeech.groups.groups import Groups

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
WIDTHS = ("head_dim", "attention_head_size", "dim_head", "d_head", "head_size", "d_k")
INNER = ("all_head_size", "inner_dim")
OUTER = ("embed_dim", "hidden_size", "d_model")
"""Names under which modules keep how many heads they have, how wide each is, both together, and how wide their input is."""


@dataclass(frozen=True)
class Heads:
    """How many, and how wide."""

    count: int
    width: int

    @property
    def size(self) -> int:
        return self.count * self.width


def padded(x: Tensor, dim: int, old: Heads, new: Heads) -> Tensor:
    """Zeros behind the units of every head along ``dim``, and whole heads of zeros; ``dim`` may hold several sets of heads."""
    shape = tuple(x.shape)
    sets = shape[dim] // old.size
    wide = torch.zeros(*shape[:dim], sets, new.count, new.width, *shape[dim + 1 :], dtype=x.dtype)
    inside = x.detach().reshape(*shape[:dim], sets, old.count, old.width, *shape[dim + 1 :])
    wide.narrow(dim + 1, 0, old.count).narrow(dim + 2, 0, old.width).copy_(inside)
    return wide.reshape(*shape[:dim], sets * new.size, *shape[dim + 1 :])


def heads_of(axes: Sequence[Axis], usual: Heads) -> list[Heads]:
    """Heads on the axes of one attention, which are as many on all of them.

    Where one factor of an axis is 1 it is not told apart, and another axis has to say how many there are; if none does, a
    size that one head can have is taken to be that.

    Raises:
        InputError: they are not heads of one width; a bare reason.
    """
    pairs = [[f.size for f in axis.factors] if isinstance(axis, Product) else [axis.size] for axis in axes]
    counts = {pair[0] for pair in pairs if len(pair) == 2}
    counts = counts or {1 if max(pair[0] for pair in pairs) <= usual.width else pairs[0][0]}
    (count, *more) = counts
    if more or any(len(pair) > 2 or axis.size % count for pair, axis in zip(pairs, axes, strict=True)):
        raise InputError("its heads cannot be told apart")
    return [Heads(count, axis.size // count) for axis in axes]


def fit_heads(module: nn.Module, path: str, tensors: dict[str, Tensor], groups: Groups) -> str:
    """Give an attention module its heads: the small tensors are filled up with zeros, its attributes set.

    Args:
        tensors: the small tensors of the whole model, of which those of this module are replaced.

    Returns:
        what was filled up, for a note; empty if nothing was.

    Raises:
        InputError: its attributes cannot express them; a bare reason.
    """
    if isinstance(module, nn.MultiheadAttention):
        return _fit_torch(module, path, tensors, groups)
    found = attention_in(module, path, groups)
    if found is None:
        return ""
    outer, new = tensors[f"{found.queries}.weight"].shape[1], found.least
    fill_up(tensors, found, new)
    _set(module, COUNTS, found.usual.count, new.count)
    _set(module, WIDTHS, found.usual.width, new.width)
    _set(module, INNER, found.usual.size, new.size)
    _set(module, OUTER, found.outer, outer)
    return _told(path, found.matched, found.valued, new)


def _set(module: nn.Module, names: Sequence[str], old: int, new: int) -> None:
    for name in names:
        if getattr(module, name, None) == old:
            setattr(module, name, new)


def _told(path: str, first: Heads, second: Heads, new: Heads) -> str:
    if first == second == new:
        return ""
    return (
        f"{path}: {new.count} heads of {new.width}, filled up with zeros from {first.count} of {first.width} (queries, keys) "
        f"and {second.count} of {second.width} (values)"
    )


# ------------------------------------------------------------------------------------------------ a user's own


@dataclass(frozen=True)
class Attention:
    """An attention module of linear layers, found by what reads what.

    Attributes:
        queries, keys, values, out: paths of its layers.
        usual: its heads before they were cut.
        outer: what its layers read, before.
        matched, valued: heads of queries and keys, and of values.
    """

    queries: str
    keys: str
    values: str
    out: str
    usual: Heads
    outer: int
    matched: Heads
    valued: Heads

    @property
    def least(self) -> Heads:
        """The smallest equal heads that hold all of them."""
        return Heads(self.matched.count, max(self.matched.width, self.valued.width))


def attention_in(module: nn.Module, path: str, groups: Groups) -> Attention | None:
    """The attention that a module computes; None if it is none, or does not keep how many heads it has.

    Raises:
        InputError: its heads cannot be told apart; a bare reason.
    """
    counts = [int(x) for name in COUNTS if isinstance(x := getattr(module, name, None), int)]
    roles = _roles(module, path, groups) if counts else None
    if roles is None:
        return None
    (queries, keys), values, out = roles
    layer: nn.Linear = module.get_submodule(queries.removeprefix(f"{path}.") if path else queries)  # type: ignore[assignment]
    usual = Heads(counts[0], max(1, layer.out_features // counts[0]))
    matched, valued = heads_of([groups.parameters[f"{name}.weight"][0] for name in (queries, values)], usual)
    return Attention(queries, keys, values, out, usual, layer.in_features, matched, valued)


def _roles(module: nn.Module, path: str, groups: Groups) -> tuple[list[str], str, str] | None:
    """Layers that make queries and keys, the one that makes values, and the one that reads them; None if it is no attention."""
    layers = [f"{path}.{name}".lstrip(".") for name, child in module.named_children() if isinstance(child, nn.Linear)]
    axes = {name: groups.parameters[f"{name}.weight"] for name in layers if f"{name}.weight" in groups.parameters}
    for out, (_, read) in axes.items():
        values = [name for name, (rows, _) in axes.items() if rows == read and name != out]
        others = [name for name in axes if name not in (out, *values)]
        pairs = [name for name in others if sum(axes[name][0] == axes[other][0] for other in others) == 2]
        if len(values) == 1 and len(pairs) == 2 and axes[values[0]][1] in [axes[name][1] for name in pairs]:
            return (
                pairs,
                values[0],
                out,
            )  # keys and values are made of the same input: that tells them from what reads them
        if len(values) == 3:
            return values[:2], values[2], out
    return None


def fill_up(tensors: dict[str, Tensor], found: Attention, new: Heads) -> None:
    """Heads of zeros, and units of zero in every head, in the small tensors of the whole model."""
    rows = ((found.queries, found.matched), (found.keys, found.matched), (found.values, found.valued))
    places = [(f"{layer}.{name}", 0, old) for layer, old in rows for name in ("weight", "bias")]
    for name, dim, old in (*places, (f"{found.out}.weight", 1, found.valued)):
        if name in tensors and old != new:
            tensors[name] = padded(tensors[name], dim, old, new)


# ------------------------------------------------------------------------------------------------------ torch.nn


def _fit_torch(module: nn.MultiheadAttention, path: str, tensors: dict[str, Tensor], groups: Groups) -> str:
    """``embed_dim`` is the width of the queries' input, heads × width is the same number, and the scale follows the width."""
    usual = Heads(module.num_heads, module.head_dim)
    packed = f"{path}.in_proj_weight".lstrip(".")
    names = [packed] if packed in tensors else [f"{path}.{x}_proj_weight".lstrip(".") for x in "qkv"]
    if any(name not in tensors for name in names):
        raise InputError("the graph has no weights of it")
    if module.bias_k is not None:
        raise InputError("a MultiheadAttention with add_bias_kv keeps its sizes")
    found = heads_of([_without_set(groups.parameters[name][0], name == packed) for name in names], usual)
    outer = tensors[names[0]].shape[1]
    new = within(outer, Heads(found[0].count, max(h.width for h in found)))
    bias, out = f"{path}.in_proj_bias".lstrip("."), f"{path}.out_proj.weight".lstrip(".")
    if bias in tensors:
        parts = tensors[bias].tensor_split(_ends(found if len(found) == 3 else found * 3))
        biases = zip(parts, found if len(found) == 3 else found * 3, strict=True)
        tensors[bias] = torch.cat([padded(part, 0, old, new) for part, old in biases])
    for name, old in zip(names, found, strict=True):
        tensors[name] = padded(tensors[name], 0, old, new)
    tensors[out] = padded(tensors[out], 1, found[-1], new)
    for name in filter(tensors.__contains__, (names[0], bias)):
        scaled = tensors[name].clone()
        scaled[: new.size] *= sqrt(new.width / usual.width)  # torch divides the queries by the root of the new width
        tensors[name] = scaled
    _shape_torch(module, new, outer, [tensors[name].shape[1] for name in names])
    return _told(path, found[0], found[-1], new)


def _without_set(axis: Axis, packed: bool) -> Axis:
    """One set of heads of the three that lie one after the other in a packed weight."""
    if not packed or not isinstance(axis, Product) or axis.factors[0].size != 3:
        if packed:
            raise InputError("queries, keys and values are packed, and cannot be told apart")
        return axis
    return Product(axis.factors[1:]) if len(axis.factors) > 2 else axis.factors[1]


def _ends(found: list[Heads]) -> list[int]:
    sizes = [heads.size for heads in found]
    return [sizes[0], sizes[0] + sizes[1]]


def within(outer: int, least: Heads) -> Heads:
    """The fewest heads that fill the width of the input and hold at least these."""
    for count in range(least.count, outer + 1):
        if outer % count == 0 and outer // count >= least.width:
            return Heads(count, outer // count)
    raise InputError(
        f"{least.count} heads of {least.width} do not fit into the width {outer} of their input, which heads × width has to be"
    )


def _shape_torch(module: nn.MultiheadAttention, new: Heads, outer: int, inputs: list[int]) -> None:
    module.embed_dim, module.num_heads, module.head_dim = outer, new.count, new.width
    if len(inputs) == 3:
        module.kdim, module.vdim = inputs[1:]
    else:
        module.kdim = module.vdim = outer
