"""Which form Fourier transforms have in a file: a product with their matrix (a convolution), or the runtime's own operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from shrinkspeech.defaults import STFT_FORMS
from shrinkspeech.errors import InputError
from shrinkspeech.graph.fourier import points_of

AUTO, CONV, OPERATOR = STFT_FORMS

GAIN = 0.9
"""A convolution makes the file larger, so that it must take less than this share of the operator's time."""


@dataclass(frozen=True)
class Transform:
    """A transform as far as its time depends on it.

    Attributes:
        kind: ``stft``, ``istft``, ``rfft`` or ``irfft``.
        points: of each transform.
        hop: samples from one frame to the next; 0 where there are no frames.
        sizes: shape of what goes in, for one item of the example: ``[rows, samples]``, or ``[rows, bins, frames]``.
        whole: whether all bins are there, and not only those that say everything about a real signal.
        bins: how many somebody reads, of a spectrum of which not all are; else 0.
    """

    kind: str
    points: int
    hop: int
    sizes: tuple[int, ...]
    whole: bool = False
    bins: int = 0

    @property
    def gives_spectrum(self) -> bool:
        """Whether it goes from samples to a spectrum."""
        return self.kind in ("stft", "rfft")

    def __str__(self) -> str:
        some = f", {self.bins} bins of which are read," if self.bins else ""
        return f"{self.kind} of {self.points} points{some}"


@dataclass(frozen=True)
class Spectrum:
    """The form that a transform has in a file.

    Attributes:
        form: ``conv`` or ``op``.
        seconds: time of each form in onnxruntime with one thread at the example's length; empty if nothing was measured.
    """

    transform: Transform
    form: str
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1e3 * self.seconds[name]:.2f} ms" for name in sorted(self.seconds))
        return f"{self.transform} as {self.form}" + (f" ({times})" if times else "")


class Forms:
    """The forms of a file's transforms, and what was found while it was written.

    Args:
        wanted: ``conv``, ``op``, or ``auto`` for the faster.
        seconds: of each form of each transform, for ``auto``; without it a transform keeps its operator.
        batch: items in the example.
        chosen: forms by the names of nodes, which stand above all else.

    Raises:
        InputError: there is no such form.
    """

    def __init__(
        self,
        wanted: str,
        seconds: Mapping[Transform, Mapping[str, float]] | None = None,
        batch: int = 1,
        chosen: Mapping[str, str] | None = None,
    ) -> None:
        if wanted not in STFT_FORMS:
            raise InputError(f"'{wanted}' is no form of a Fourier transform: give {', '.join(STFT_FORMS)}")
        self.wanted, self.seconds, self.batch, self.chosen = wanted, seconds or {}, batch, chosen or {}
        self.found: dict[str, Spectrum] = {}
        """By the name of the graph's node."""
        self.kernels: dict[str, str] = {}
        """Names of the convolutions that were written, with the node that they stand for."""
        self.bins: dict[str, int] = {}
        """How many bins of a node's spectrum somebody reads, where not all are."""

    def is_dense(self, name: str, transform: Transform, possible: bool = True) -> bool:
        """Whether the node of that name becomes a product, where it can be one; the answer is kept."""
        transform = replace(transform, bins=self.bins.get(name, 0))
        times = self.seconds.get(transform, {})
        faster = bool(times) and times[CONV] < GAIN * times[OPERATOR]
        wanted = self.chosen.get(name, (CONV if faster else OPERATOR) if self.wanted == AUTO else self.wanted)
        form = wanted if possible else OPERATOR
        self.found[name] = Spectrum(transform, form, times if self.wanted == AUTO and possible else {})
        return form == CONV

    def read(self, name: str, bins: int) -> None:
        """Note that of a node's spectrum no more than some bins are read."""
        self.bins[name] = bins
        found = self.found[name]
        self.found[name] = replace(found, transform=replace(found.transform, bins=bins))

    @property
    def spectra(self) -> tuple[Spectrum, ...]:
        """Each form that a transform has, once."""
        return tuple({str(found): found for found in self.found.values()}.values())


@dataclass(frozen=True)
class Kernel:
    """A windowed matrix ``[2 · bins, samples]``; ``left`` and ``right`` points of a frame are outside of the window."""

    rows: Tensor
    left: int = 0
    right: int = 0


def kernel_of(matrix: Tensor) -> Kernel | None:
    """The matrix without the samples that are zero in all rows; None if whoever counts would not know it for a transform."""
    points = matrix.shape[1]
    inside = np.flatnonzero(matrix.abs().amax(0).numpy())
    if not len(inside):
        return None
    left, right = int(inside[0]), points - 1 - int(inside[-1])
    for before, after in (
        (left, right),
        (max(left - 1, 0), right),
        (0, 0),
    ):  # a window may begin with a zero of its own
        kernel = Kernel(matrix[:, before : points - after], before, after)
        if points_of(kernel.rows.to(torch.float32).numpy()) == points:
            return kernel
    return None
