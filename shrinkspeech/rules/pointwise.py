"""Pointwise operators: each output element depends on the elements at the same place only.

Units stay apart, so nothing is gated here; broadcasting makes the axes of the operands agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from shrinkspeech.axes.algebra import Axis, Fixed
from shrinkspeech.rules.registry import Effect, Literal, Site, rule

aten = torch.ops.aten

POINTWISE = """
    relu sigmoid tanh silu gelu elu selu leaky_relu rrelu hardtanh hardswish hardsigmoid softplus celu mish relu6 log_sigmoid
    abs neg exp expm1 log log2 log10 log1p sqrt rsqrt square reciprocal sin cos tan atan asin acos sinh cosh erf erfc sign
    floor ceil round trunc frac sgn angle logit clamp_min clamp_max clamp
    isnan isinf isfinite logical_not bitwise_not nan_to_num positive rad2deg deg2rad
    clone contiguous detach alias lift_fresh_copy dropout feature_dropout alpha_dropout feature_alpha_dropout bernoulli
    fill zero zeros_like ones_like full_like empty_like rand_like randn_like threshold softshrink hardshrink tanhshrink
    _to_copy __and__ __or__ __xor__ conj _conj resolve_conj resolve_neg real imag complex polar
    add sub mul div rsub pow maximum minimum fmax fmin atan2 remainder fmod floor_divide true_divide multiply subtract
    eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor where masked_fill lerp
    addcmul addcdiv copysign hypot xlogy logaddexp
    divide absolute negative clip sinc arctan arctan2 arcsin arccos
"""

FIRST_ONLY = "to type_as"


def overloads(names: str) -> Iterator[Any]:
    """Every overload (in-place forms too) of the named operators that this torch has for tensors."""
    for name in names.split():
        for form in (name, f"{name}_"):
            packet = getattr(aten, form, None)
            if packet is not None:
                yield from filter(takes_a_tensor, (getattr(packet, overload) for overload in packet.overloads()))


def takes_a_tensor(target: Any) -> bool:
    """Tensor in, one tensor out: not the overloads for numbers and lists, nor those that write into ``out=``."""
    schema = target._schema
    inputs, results = ([str(item.type) for item in items] for items in (schema.arguments, schema.returns))
    written = any(item.is_out for item in schema.arguments)
    return "Tensor" in inputs and results == ["Tensor"] and not written and not target._overloadname.startswith("prim_")


def align(site: Site, operands: list[Any]) -> tuple[Axis, ...]:
    """The broadcast of the operands' axes: aligned at the right, size 1 gives way."""
    rank = len(site.shape())
    result: list[Axis] = [Fixed(1)] * rank
    for operand in operands:
        axes = site.axes(operand)
        for offset, axis in enumerate(axes, start=rank - len(axes)):
            known = site.unifier.resolve(result[offset])
            if known == Fixed(1) or (known.size == 1 and axis.size != 1):
                result[offset] = axis
            elif axis.size != 1 or known.size == 1:
                site.unify(known, axis)
    return tuple(result)


def pointwise(site: Site) -> Effect:
    """Operands broadcast against each other; the result has their common axes."""
    return Effect(outputs=(align(site, list(site.node.all_input_nodes)),))


def first(site: Site) -> Effect:
    """The result has the axes of the first argument; another tensor is asked for its type and device alone."""
    x, *others = site.node.all_input_nodes
    return Effect(outputs=(site.axes(x),), left=tuple(axis for other in others for axis in site.axes(other)))


rule(*dict.fromkeys(overloads(POINTWISE)), aten.max.other, aten.min.other)(pointwise)
rule(*dict.fromkeys(overloads(FIRST_ONLY)))(first)


@rule(aten.prelu.default)
def prelu(site: Site) -> Effect:
    """One slope, or one slope for each channel (axis 1 of the input)."""
    x, slope = site.arg(0), site.arg(1)
    axes, slopes = site.axes(x), site.axes(slope)
    if slopes and slopes[0].size > 1:
        site.unify(axes[min(1, len(axes) - 1)], slopes[0])
    return Effect(outputs=(site.axes(x),))


ANALYSIS = "hann_window hamming_window blackman_window bartlett_window kaiser_window"


@rule(
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.linspace.default,
    *(
        getattr(packet, name)
        for packet in (getattr(aten, name) for name in ANALYSIS.split())
        for name in packet.overloads()
        if not name.endswith("out")
    ),
)
def positions(site: Site) -> Effect:
    """Values that depend on their position: removing an element would move the others."""
    return Effect(outputs=(site.fixed(site.shape(), f"{site.node.target} counts positions"),))


@rule(
    aten.zeros.default,
    aten.ones.default,
    aten.full.default,
    aten.empty.memory_format,
    aten.rand.default,
    aten.randn.default,
)
def create(site: Site) -> Effect:
    """Each literal size is an axis of its own, rewritten to what remains of it."""
    return created(site, 0, "size")


@rule(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default)
def new(site: Site) -> Effect:
    """As ``create``, the sizes in the second argument; the first is asked for its type and device alone."""
    return replace(created(site, 1, "size"), left=site.axes(site.arg(0)))


def created(site: Site, position: int, name: str) -> Effect:
    sizes, path = site.arg(position, name), site.path(position, name)
    axes = tuple(
        site.unifier.fresh(size) if isinstance(size, int) else site.sized(size, extent)
        for size, extent in zip(sizes, site.shape(), strict=True)
    )
    literals = tuple(
        Literal((*path, i), axis)
        for i, (size, axis) in enumerate(zip(sizes, axes, strict=True))
        if isinstance(size, int)
    )
    return Effect(outputs=(axes,), literals=literals)


@rule(aten.scalar_tensor.default)
def scalar(site: Site) -> Effect:
    """A number as a tensor."""
    return Effect(outputs=(site.fixed(site.shape()),))
