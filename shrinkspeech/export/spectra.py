"""Spectra in operators that ONNX has, in one of two forms (``transforms.py``).

As products: ``stft`` is a convolution with the windowed matrix of the transform (``fourier.py``), ``istft`` a transposed one.
As operators: the runtime's own, and for the way back sums of shifted pieces of the frames, each one hop long. The way back is
divided by the overlapped squares of the window, which are computed at run time, so that the length may be any.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from shrinkspeech.export import fourier
from shrinkspeech.export.complex_forms import form
from shrinkspeech.export.complex_parts import Parts, Writer
from shrinkspeech.export.transforms import Kernel, Transform, kernel_of

aten = torch.ops.aten

WINDOW = "istft_window"
"""Names of constants begin so."""

STFT = (aten.stft.default, aten.stft.center)
"""Operators that may change though nothing complex goes in or out."""

END = 2**63 - 1
"""Where a slice goes to the end."""


@form(*STFT)
def stft(w: Writer) -> Any:
    """A convolution, or the runtime's own of a signal that is centred already."""
    given = w.arguments()
    points, window, signal = given["n_fft"], _window(w, given), given["self"]
    if window is None or len(w.shape(signal)) != 2 or w.is_complex(signal) or given.get("align_to_window"):
        return None
    rows = w.call(aten.unsqueeze.default, signal, 1)
    if given.get("center"):
        rows = w.call(aten.pad.default, rows, [points // 2, points // 2], given["pad_mode"])
    hop, onesided = given["hop_length"] or points // 4, given["onesided"] is not False
    kernel = kernel_of(torch.from_numpy(fourier.analysis(points, onesided)) * window * _scale(given, -0.5))
    transform = Transform("stft", points, hop, _sizes(w, signal, 1), not onesided)
    if not w.forms.is_dense(w.node.name, transform, kernel is not None) or kernel is None:
        return _own_stft(w, rows, hop, onesided, given) if given.get("center") else None
    inside = (
        w.call(aten.slice.Tensor, rows, 2, kernel.left, -kernel.right or END) if kernel.left or kernel.right else rows
    )
    found = w.call(aten.conv1d.default, inside, _matrix(w, kernel, signal), None, [hop])
    w.forms.kernels[found.name] = w.node.name
    parts = _halves(w, found, 1, len(kernel.rows) // 2)
    return parts if given["return_complex"] else w.call(aten.stack.default, [parts.real, parts.imaginary], -1)


def _own_stft(w: Writer, rows: fx.Node, hop: int, onesided: bool, given: dict[str, Any]) -> Any:
    signal = w.call(aten.squeeze.dim, rows, 1)
    rest = (given["n_fft"], hop, given["win_length"], given["window"], given["normalized"], onesided)
    found = w.call(aten.stft.default, signal, *rest, given["return_complex"])
    return w.of_pair(w.call(aten.view_as_real.default, found)) if given["return_complex"] else found


def _sizes(w: Writer, value: Any, dims: int) -> tuple[int, ...]:
    """Rows that one item of the example has, and the last dimensions."""
    shape = w.shape(value)
    rows = math.prod(shape[: len(shape) - dims])
    return max(rows // w.forms.batch, 1), *shape[len(shape) - dims :]


def _matrix(w: Writer, kernel: Kernel, like: Any) -> fx.Node:
    return w.constant(fourier.PREFIX, kernel.rows[:, None].to(w.dtype(like)).contiguous())


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
    """Samples of the last axis times the matrix, or the runtime's own."""
    given = w.arguments()
    signal, last = given["self"], len(w.shape(w.node)) - 1
    points = w.shape(signal)[last]
    if not _is_plain(given, last) or given["n"] not in (None, points):
        return None
    kernel = kernel_of(torch.from_numpy(fourier.analysis(points)))
    transform = Transform("rfft", points, 0, _sizes(w, signal, 1))
    if not w.forms.is_dense(w.node.name, transform, kernel is not None) or kernel is None:
        return None
    table = w.constant(fourier.PREFIX, kernel.rows.T.to(w.dtype(signal)).contiguous())
    return _halves(w, w.call(aten.matmul.default, signal, table), last, points // 2 + 1)


@form(aten.fft_irfft.default)
def irfft(w: Writer) -> fx.Node | None:
    """Both parts side by side times the matrix, or the runtime's own."""
    given = w.arguments()
    last = len(w.shape(w.node)) - 1
    points, bins = w.shape(w.node)[last], w.shape(given["self"])[last]
    if not _is_plain(given, last) or bins != points // 2 + 1:
        return None
    kernel = kernel_of(torch.from_numpy(fourier.synthesis(points)))
    transform = Transform("irfft", points, 0, _sizes(w, given["self"], 1))
    if not w.forms.is_dense(w.node.name, transform, kernel is not None) or kernel is None:
        return None
    half = w.parts(given["self"])
    both = w.call(aten.cat.default, [half.real, half.imaginary], last)
    return w.call(aten.matmul.default, both, w.constant(fourier.PREFIX, kernel.rows.to(w.dtype(w.node))))


def _is_plain(given: dict[str, Any], last: int) -> bool:
    return given["dim"] in (-1, last) and given["norm"] in (None, "backward")


@form(aten.istft.default)
def istft(w: Writer) -> fx.Node | None:
    """``[..., bins, frames]`` to ``[..., samples]``: frames overlapped, divided by their windows' squares overlapped."""
    given = w.arguments()
    window, points = _window(w, given), given["n_fft"]
    if window is None or given["return_complex"]:
        return None
    time = len(w.shape(w.node)) - 1
    hop, half = given["hop_length"] or points // 4, _half_spectra(w, given, time)
    scaled = window * _scale(given, 0.5)
    kernel = kernel_of(torch.from_numpy(fourier.synthesis(points)) * scaled)
    transform = Transform("istft", points, hop, _sizes(w, given["self"], 2), given["onesided"] is False)
    start, cut = (
        (points // 2 if given["center"] else 0),
        (points // 2 if given["center"] and given["length"] is None else 0),
    )
    possible = kernel is not None and start >= kernel.left
    if w.forms.is_dense(w.node.name, transform, possible) and kernel is not None:
        cut = max(cut, kernel.right)
        samples = _transposed(w, half, kernel, hop, start, cut, time)
    else:
        samples = _shifted(w, _samples(w, half, time + 1, scaled), time, points, hop, start, cut)
    count = w.call(aten.sym_size.int, half.real, time + 1)
    square = w.constant(WINDOW, (window**2)[None].to(w.dtype(w.node)))
    squares = w.call(aten.expand.default, square, [count, points])
    found = w.call(aten.div.Tensor, samples, _shifted(w, squares, 0, points, hop, start, cut))
    if given["length"] is None:
        return found
    longer = w.call(aten.constant_pad_nd.default, found, [0, given["length"]])
    return w.call(aten.slice.Tensor, longer, time, 0, given["length"])


def _half_spectra(w: Writer, given: dict[str, Any], time: int) -> Parts:
    """``[..., bins, frames]``; of all bins those that say everything about a real signal."""
    spectra, bins = w.parts(given["self"]), given["n_fft"] // 2 + 1
    if given["onesided"] is not False:
        return spectra
    return Parts(*(w.call(aten.narrow.default, part, time, 0, bins) for part in (spectra.real, spectra.imaginary)))


def _transposed(w: Writer, half: Parts, kernel: Kernel, hop: int, start: int, cut: int, time: int) -> fx.Node:
    """Overlapped frames by a transposed convolution, from ``start`` to ``cut`` samples before their end."""
    both = w.call(aten.cat.default, [half.real, half.imaginary], time)
    if time == 0:
        both = w.call(aten.unsqueeze.default, both, 0)
    whole = w.call(aten.conv_transpose1d.default, both, _matrix(w, kernel, w.node), None, [hop])
    rows = w.call(aten.squeeze.dims, whole, [0, 1]) if time == 0 else w.call(aten.squeeze.dim, whole, 1)
    return w.call(aten.slice.Tensor, rows, time, start - kernel.left, kernel.right - cut or END)


def _samples(w: Writer, half: Parts, axis: int, window: Tensor) -> fx.Node:
    """Half spectra to windowed samples of each frame, on the last axis, by the runtime's own transform."""
    parts = [w.call(aten.transpose.int, part, axis - 1, axis) for part in (half.real, half.imaginary)]
    pair = w.call(aten.stack.default, parts, -1)
    frames = w.call(aten.fft_irfft.default, w.call(aten.view_as_complex.default, pair), len(window), axis)
    return w.call(aten.mul.Tensor, frames, w.constant(WINDOW, window.to(w.dtype(w.node))))


def _shifted(w: Writer, frames: fx.Node, time: int, points: int, hop: int, start: int, cut: int) -> fx.Node:
    """``[..., T, points]`` to ``[..., samples]``: the i-th hop of each frame meets the first of the i-th frame after it."""
    pieces = -(-points // hop)
    whole = w.call(aten.constant_pad_nd.default, frames, [0, pieces * hop - points])
    total = None
    for i in range(pieces):
        piece = w.call(aten.slice.Tensor, whole, time + 1, i * hop, (i + 1) * hop)
        placed = w.call(aten.constant_pad_nd.default, piece, [0, 0, i, pieces - 1 - i])
        total = placed if total is None else w.call(aten.add.Tensor, total, placed)
    flat = w.call(aten.flatten.using_ints, total, time, time + 1)
    return w.call(aten.slice.Tensor, flat, time, start, points - pieces * hop - cut or END)
