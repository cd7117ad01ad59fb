"""Signal operators and lookups: Fourier transforms, tables, and what must be left alone by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from shrinkspeech.axes.algebra import Fixed, product
from shrinkspeech.rules.registry import Effect, Site, Term, rule

aten = torch.ops.aten


@rule(aten.stft.default, aten.stft.center)
def stft(site: Site) -> Effect:
    """A transform over time: every axis is fixed, and an FFT of 5/2 · n · log2 n operations a frame is counted apart."""
    for node in site.node.all_input_nodes:
        for axis in site.axes(node):
            site.freeze(axis, "a Fourier transform is taken over it")
    size = site.arg(1, "n_fft")
    frames = math.prod(site.shape()) // site.shape()[-2]
    return Effect(
        outputs=(site.fixed(site.shape(), "frequency and time of a Fourier transform"),),
        extra=(Term(2.5 * size * math.log2(size), (Fixed(frames),)),),
    )


@rule(aten.istft.default)
def istft(site: Site) -> Effect:
    """The way back: every axis is fixed, and an FFT a frame is counted apart, as ``stft`` is."""
    for node in site.node.all_input_nodes:
        for axis in site.axes(node):
            site.freeze(axis, "a Fourier transform is taken over it")
    size, spectra = site.arg(1), [axis.size for axis in site.axes(site.arg(0))]
    frames = math.prod(spectra) // spectra[-2]
    return Effect(
        outputs=(site.fixed(site.shape(), "time of a Fourier transform"),),
        extra=(Term(2.5 * size * math.log2(size), (Fixed(frames),)),),
    )


@rule(aten.fft_rfft.default, aten.fft_irfft.default)
def real_fft(site: Site) -> Effect:
    """A transform over one axis, which is fixed; the others stay what they are. Counted apart, as ``stft`` is."""
    axes, dim = list(site.axes(site.arg(0))), site.arg(2, "dim", -1) % len(site.shape())
    site.freeze(axes[dim], "a Fourier transform is taken over it")
    points = max(axes[dim].size, site.shape()[dim])
    rows = tuple(axis for i, axis in enumerate(axes) if i != dim)
    axes[dim] = Fixed(site.shape()[dim])
    return Effect(outputs=(tuple(axes),), extra=(Term(2.5 * points * math.log2(max(points, 2)), rows),))


@rule(aten.diff.default)
def diff(site: Site) -> Effect:
    """Steps along one axis, which stays whole; on all others, what is put before and after has the axes of the input."""
    axes, dim = list(site.axes(site.arg(0))), site.arg(2, "dim", -1) % len(site.shape())
    for part in (site.arg(0), site.arg(3, "prepend"), site.arg(4, "append")):
        for i, axis in enumerate(site.axes(part)):
            if i == dim:
                site.freeze(axis, f"{site.node.target} takes steps along it")
            else:
                site.unify(axes[i], axis)
    axes[dim] = Fixed(site.shape()[dim])
    return Effect(outputs=(tuple(axes),))


@rule(aten.embedding.default)
def embedding(site: Site) -> Effect:
    """Rows are addressed by number; the columns are an axis like any other."""
    rows, columns = site.axes(site.arg(0))
    site.freeze(rows, "the rows of a table are addressed by number")
    return Effect(outputs=((*site.axes(site.arg(1)), columns),))


@rule(aten.im2col.default)
def im2col(site: Site) -> Effect:
    """``[B, C, …] → [B, C·k, L]``: channels times the fixed kernel."""
    batch, channels, *spatial = site.axes(site.arg(0))
    for axis in spatial:
        site.freeze(axis, f"{site.node.target} slides over it")
    kernel = math.prod(site.arg(1))
    return Effect(outputs=((batch, product(channels, Fixed(kernel)), Fixed(site.shape()[-1])),))


@rule(aten.unfold.default)
def unfold(site: Site) -> Effect:
    """A window over one axis, put last."""
    axes = list(site.axes(site.arg(0)))
    dim = site.arg(1) % len(axes)
    site.freeze(axes[dim], f"{site.node.target} slides over it")
    shape = site.shape()
    axes[dim] = Fixed(shape[dim])
    return Effect(outputs=((*axes, Fixed(shape[-1])),))


@rule(aten.tril.default, aten.triu.default)
def triangle(site: Site) -> Effect:
    """Rows and columns are compared by number."""
    axes = site.axes(site.arg(0))
    for axis in axes[-2:]:
        site.freeze(axis, f"{site.node.target} compares positions")
    return Effect(outputs=(axes,))


@rule(aten.sym_size.int, aten.sym_numel.default)
def size(site: Site) -> Effect:
    """A number, not a tensor: its value follows the tensor by itself."""
    return Effect(outputs=((),), left=site.axes(site.arg(0)))


def scalar_arithmetic(site: Site) -> Effect:
    """Python arithmetic on sizes."""
    return Effect(outputs=((),))


def _operators() -> list[Any]:
    import math as m
    import operator as o

    names = [o.add, o.sub, o.mul, o.floordiv, o.truediv, o.mod, o.neg, o.pow]
    return [*names, m.ceil, m.floor, m.trunc, torch.sym_max, torch.sym_min, torch.sym_float]


rule(*_operators())(scalar_arithmetic)


def is_number(node: fx.Node) -> bool:
    """Whether a node computes a size rather than a tensor."""
    return node.target in _operators() or node.target in (aten.sym_size.int, aten.sym_numel.default)
