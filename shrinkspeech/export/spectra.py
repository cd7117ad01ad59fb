"""Spectra in operators that ONNX has: ``istft``, and transforms of sizes at which onnxruntime is slow.

A transform of 2ⁿ points stays the runtime's own; of any other it is a product with the matrix of the transform
(``fourier.py``), over frames a convolution. The way back overlaps the frames by sums of shifted pieces, each one hop long, and
divides by the same sums of the squared window, so that the length may be any.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from shrinkspeech.export import fourier
from shrinkspeech.export.complex_forms import form
from shrinkspeech.export.complex_parts import Parts, Writer

aten = torch.ops.aten

WINDOW = "istft_window"
"""Names of constants begin so."""

STFT = (aten.stft.default, aten.stft.center)
"""Operators that may change though nothing complex goes in or out."""

END = 2**63 - 1
"""Where a slice goes to the end."""


@form(*STFT)
def stft(w: Writer) -> Any:
    """A convolution with the windowed matrix; frames of 2ⁿ points stay as they are, once they are centred."""
    given = w.arguments()
    points, window, signal = given["n_fft"], _window(w, given), given["self"]
    if window is None or len(w.shape(signal)) != 2 or w.is_complex(signal) or given.get("align_to_window"):
        return None
    rows = w.call(aten.unsqueeze.default, signal, 1)
    if given.get("center"):
        rows = w.call(aten.pad.default, rows, [points // 2, points // 2], given["pad_mode"])
    hop, onesided = given["hop_length"] or points // 4, given["onesided"] is not False
    if fourier.is_quick(points):
        return _own_stft(w, rows, hop, onesided, given) if given.get("center") else None
    matrix = torch.from_numpy(fourier.analysis(points, onesided)) * window * _scale(given, -0.5)
    weight = w.constant(fourier.PREFIX, matrix[:, None].to(w.dtype(signal)))
    parts = _halves(w, w.call(aten.conv1d.default, rows, weight, None, [hop]), 1, len(matrix) // 2)
    return parts if given["return_complex"] else w.call(aten.stack.default, [parts.real, parts.imaginary], -1)


def _own_stft(w: Writer, rows: fx.Node, hop: int, onesided: bool, given: dict[str, Any]) -> Any:
    """The runtime's, of a signal that is centred already."""
    signal = w.call(aten.squeeze.dim, rows, 1)
    rest = (given["n_fft"], hop, given["win_length"], given["window"], given["normalized"], onesided)
    found = w.call(aten.stft.default, signal, *rest, given["return_complex"])
    return w.of_pair(w.call(aten.view_as_real.default, found)) if given["return_complex"] else found


def _halves(w: Writer, both: fx.Node, axis: int, bins: int) -> Parts:
    return Parts(*(w.call(aten.narrow.default, both, axis, start, bins) for start in (0, bins)))


def _window(w: Writer, given: dict[str, Any]) -> Tensor | None:
    """The window in the middle of the frame; None where it hangs on an input, or is not real."""
    points, window = given["n_fft"], torch.ones(given["win_length"] or given["n_fft"])
    if given["window"] is not None:
        found = w.constant_value(given["window"])
        if found is None or found.is_complex():
            return None
        window = found
    left = (points - len(window)) // 2
    return F.pad(window.double(), (left, points - len(window) - left))


def _scale(given: dict[str, Any], power: float) -> float:
    return float(given["n_fft"] ** power) if given["normalized"] else 1.0


@form(aten.fft_rfft.default)
def rfft(w: Writer) -> Parts | None:
    """Samples of the last axis times the matrix."""
    given = w.arguments()
    signal, last = given["self"], len(w.shape(w.node)) - 1
    points = w.shape(signal)[last]
    if fourier.is_quick(points) or not _is_plain(given, last) or given["n"] not in (None, points):
        return None
    table = torch.from_numpy(fourier.analysis(points).T.copy())
    found = w.call(aten.matmul.default, signal, w.constant(fourier.PREFIX, table.to(w.dtype(signal))))
    return _halves(w, found, last, points // 2 + 1)


@form(aten.fft_irfft.default)
def irfft(w: Writer) -> fx.Node | None:
    """Both parts side by side times the matrix."""
    given = w.arguments()
    last = len(w.shape(w.node)) - 1
    points, bins = w.shape(w.node)[last], w.shape(given["self"])[last]
    if fourier.is_quick(points) or not _is_plain(given, last) or bins != points // 2 + 1:
        return None
    return _samples(w, w.parts(given["self"]), last, torch.ones(points))


def _is_plain(given: dict[str, Any], last: int) -> bool:
    return given["dim"] in (-1, last) and given["norm"] in (None, "backward")


def _samples(w: Writer, half: Parts, last: int, window: Tensor) -> fx.Node:
    """Half spectra on the last axis to windowed samples there."""
    points, dtype = len(window), w.dtype(w.node)
    if fourier.is_quick(points):
        pair = w.call(aten.stack.default, [half.real, half.imaginary], -1)
        frames = w.call(aten.fft_irfft.default, w.call(aten.view_as_complex.default, pair), points, last)
        return w.call(aten.mul.Tensor, frames, w.constant(WINDOW, window.to(dtype)))
    both = w.call(aten.cat.default, [half.real, half.imaginary], last)
    table = torch.from_numpy(fourier.synthesis(points)) * window
    return w.call(aten.matmul.default, both, w.constant(fourier.PREFIX, table.to(dtype)))


@form(aten.istft.default)
def istft(w: Writer) -> fx.Node | None:
    """``[..., bins, frames]`` to ``[..., samples]``: frames overlapped, divided by their windows' squares overlapped."""
    given = w.arguments()
    window, points = _window(w, given), given["n_fft"]
    if window is None or given["return_complex"]:
        return None
    time = len(w.shape(w.node)) - 1
    hop, dtype = given["hop_length"] or points // 4, w.dtype(w.node)
    frames = _samples(w, _half_spectra(w, given, time), time + 1, window * _scale(given, 0.5))
    count = w.call(aten.sym_size.int, frames, time)
    square = w.constant(WINDOW, (window**2)[None].to(dtype))
    squares = w.call(aten.expand.default, square, [count, points])
    start = points // 2 if given["center"] else 0
    stop = points - -(-points // hop) * hop - (start if given["length"] is None else 0)
    samples, envelope = (
        w.call(aten.slice.Tensor, _overlapped(w, x, axis, points, hop), axis, start, stop or END)
        for x, axis in ((frames, time), (squares, 0))
    )
    found = w.call(aten.div.Tensor, samples, envelope)
    if given["length"] is None:
        return found
    longer = w.call(aten.constant_pad_nd.default, found, [0, given["length"]])
    return w.call(aten.slice.Tensor, longer, time, 0, given["length"])


def _half_spectra(w: Writer, given: dict[str, Any], time: int) -> Parts:
    """``[..., frames, bins]``; of all bins those that say everything about a real signal."""
    spectra, bins = w.parts(given["self"]), given["n_fft"] // 2 + 1
    found = []
    for part in (spectra.real, spectra.imaginary):
        if given["onesided"] is False:
            part = w.call(aten.narrow.default, part, time, 0, bins)
        found.append(w.call(aten.transpose.int, part, time, time + 1))
    return Parts(*found)


def _overlapped(w: Writer, frames: fx.Node, time: int, points: int, hop: int) -> fx.Node:
    """``[..., T, points]`` to ``[..., samples]``: the i-th hop of each frame meets the first of the i-th frame after it."""
    pieces = -(-points // hop)
    whole = w.call(aten.constant_pad_nd.default, frames, [0, pieces * hop - points])
    total = None
    for i in range(pieces):
        piece = w.call(aten.slice.Tensor, whole, time + 1, i * hop, (i + 1) * hop)
        placed = w.call(aten.constant_pad_nd.default, piece, [0, 0, i, pieces - 1 - i])
        total = placed if total is None else w.call(aten.add.Tensor, total, placed)
    return w.call(aten.flatten.using_ints, total, time, time + 1)
