"""``torch.istft`` as one node with a dynamic length.

Its own schema takes the length as a plain number, and a trace runs it step by step: both fix the length of the example. A
custom operator of the same arguments stands in for it while a graph is traced, as for recurrent layers (``stand_ins.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


@torch.library.custom_op("shrinkspeech::istft", mutates_args=())
def istft(
    spectrum: Tensor,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Tensor | None,
    center: bool,
    normalized: bool,
    onesided: bool | None,
    length: int | None,
    return_complex: bool,
) -> Tensor:
    """``aten.istft`` under another name."""
    result: Tensor = aten.istft.default(
        spectrum, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex
    )
    return result


@istft.register_fake
def _(spectrum: Tensor, n_fft: int, hop_length: int | None, win_length: int | None, *rest: Any) -> Tensor:
    _, center, _, _, length, return_complex = rest
    whole = n_fft + (hop_length or n_fft // 4) * (spectrum.shape[-1] - 1)
    samples = (whole - 2 * (n_fft // 2) if center else whole) if length is None else length
    kind = spectrum.dtype if return_complex else spectrum.dtype.to_real()
    return spectrum.new_empty((*spectrum.shape[:-2], samples), dtype=kind)


def stand_in(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The stand-in, called as ``torch.istft`` is."""
    result: Tensor = torch.ops.shrinkspeech.istft.default(
        input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex
    )
    return result
