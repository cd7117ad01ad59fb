"""Windows that slide over an axis, and the axes over which they do not move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shrinkspeech.axes.algebra import Axes, Fixed
from shrinkspeech.rules.registry import Site


def each(value: Any, count: int, default: int) -> list[Any]:
    """One number for each axis, of an argument that may be left out, a number, or a list of one."""
    if value is None or value == [] or isinstance(value, str):
        return [default] * count
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def single_taps(kernel: Sequence[Any], stride: Sequence[Any], padding: Sequence[Any]) -> list[bool]:
    """For each axis whether its window is a single element that meets every other one: nothing slides there."""
    return [window == (1, 1, 0) for window in zip(kernel, stride, padding, strict=True)]


def window_axes(
    site: Site, spatial: Axes, kernel: Sequence[Any], stride: Sequence[Any], padding: Sequence[Any]
) -> Axes:
    """The axes of the result: one under a window of a single element is the axis itself, any other one is fixed."""
    sizes = site.shape()[len(site.shape()) - len(spatial) :]
    result = []
    for axis, size, plain in zip(spatial, sizes, single_taps(kernel, stride, padding), strict=True):
        if plain:
            result.append(axis)
        else:
            site.freeze(axis, f"{site.node.target} slides over it")
            result.append(Fixed(size))
    return tuple(result)
