"""The front end: samples → log-mel energies, MFCC or LFCC, as one module that can be exported with the model.

    logmel:80,25ms,10ms                80 bands, window 25 ms, hop 10 ms
    mfcc:40,25ms,10ms,filters=80       40 coefficients of 80 bands
    lfcc:60,20ms,10ms,high=4000        60 coefficients of 60 bands that are evenly spaced in Hz

Hann window (periodic), frames centred on multiples of the hop with the signal reflected at both ends, power spectrum,
triangular bands of peak 1 (mel after HTK: 2595 log10(1 + f/700)), natural logarithm of the band plus ``floor``, and for
coefficients an orthonormal DCT-II. ``norm=item`` takes the mean of each band or coefficient over time away and divides by
its deviation. Other kinds, of public pretrained models, are in ``pretrained.py``.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from shrinkspeech.errors import InputError
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured

FEATURES = ("logmel", "mfcc", "lfcc", "wave", "kaldi", "whisper")


@dataclass(frozen=True)
class Features:
    """What a front end computes.

    Attributes:
        kind: ``logmel``, ``mfcc`` or ``lfcc``; ``wave``, ``kaldi`` or ``whisper``.
        count: bands or coefficients.
        window, hop: in ms.
        fft: points of the Fourier transform; by default the next power of two from the window.
        filters: bands, for coefficients.
        low, high: edges of the lowest and the highest band in Hz; ``high`` is half the rate by default.
        floor: added to every band's energy.
        norm: ``none`` or ``item``.
        frames: that the model takes, for ``kaldi`` and ``whisper``; None for as many as the audio has.
        mean, deviation: that are taken away and divided by, for ``kaldi``.
    """

    kind: str
    count: int
    window: float = 25.0
    hop: float = 10.0
    fft: int | None = None
    filters: int | None = None
    low: float = 20.0
    high: float | None = None
    floor: float = 1e-6
    norm: str = "none"
    frames: int | None = None
    mean: float = 0.0
    deviation: float = 1.0


def parse_features(text: str) -> Features:
    """``logmel:80,25ms,10ms`` and further ``name=value``, separated by commas.

    Raises:
        InputError: it cannot be read.
    """
    found = re.fullmatch(r"(\w+):(\d+)((?:,[^,]+)*)", text.replace(" ", ""))
    if not found or found[1] not in FEATURES or int(found[2]) < 1:
        raise _unreadable(text)
    parts = [part for part in found[3].split(",") if part]
    times = [part for part in parts if "=" not in part]
    named = [part.split("=", 1) for part in parts if "=" in part]
    readers: dict[str, Callable[[str], object]] = {
        "fft": int,
        "filters": int,
        "low": float,
        "high": float,
        "floor": float,
        "norm": str,
        "frames": int,
        "mean": float,
        "deviation": float,
    }
    try:
        lengths = dict(zip(("window", "hop"), map(_milliseconds, times), strict=False))
        values = {name: readers[name](value) for name, value in named}
    except (KeyError, ValueError) as error:
        raise _unreadable(text) from error
    features = replace(Features(found[1], int(found[2])), **lengths, **values)  # type: ignore[arg-type]
    if (
        len(times) > 2
        or features.norm not in ("none", "item")
        or min(features.window, features.hop, features.floor, features.deviation, features.frames or 1) <= 0
    ):
        raise _unreadable(text)
    return features


def _milliseconds(text: str) -> float:
    return float(text.removesuffix("ms"))


def _unreadable(text: str) -> InputError:
    return InputError(
        f"cannot read --features {text}: write logmel:80,25ms,10ms (or mfcc, lfcc; number, window, hop), "
        "and perhaps fft=, filters=, low=, high=, floor=, norm=item"
    )


class FrontEnd(nn.Module):
    """``[B, S]`` or ``[B, 1, S]`` → features in the layout of the model, frames = S // hop + 1.

    Args:
        rate: of the samples in Hz.
        layout: ``FT``, ``TF``, ``1FT`` or ``1TF`` (for samples ``S`` or ``1S``): what follows the batch in the model's input.

    Attributes:
        hop: samples from one frame to the next.
        shortest: samples that it needs at least.
    """

    hop: int
    shortest: int

    window: Tensor
    filters: Tensor
    cosines: Tensor | None

    def __init__(self, features: Features, rate: int, layout: str = "FT") -> None:
        super().__init__()
        self.features, self.rate, self.layout = features, rate, layout
        self.window_size = round(features.window * rate / 1000)
        self.hop = max(1, round(features.hop * rate / 1000))
        self.fft = features.fft or 1 << max(self.window_size - 1, 1).bit_length()
        self.shortest = self.fft // 2 + 1  # reflection at both ends
        high, cepstra = features.high or rate / 2, features.kind != "logmel"
        bands = (
            (features.filters or max(features.count, 40 if features.kind == "mfcc" else 1))
            if cepstra
            else features.count
        )
        if self.fft < self.window_size or not 0 <= features.low < high <= rate / 2 or bands < features.count:
            raise InputError(
                f"the front end {features.kind}:{features.count} cannot be built at {rate} Hz: fft must not be shorter "
                "than the window, low must lie below high, high at most at half the rate, and filters not below the "
                "number of coefficients"
            )
        self.register_buffer("window", torch.hann_window(self.window_size), persistent=False)
        self.register_buffer(
            "filters",
            band_filters(bands, self.fft, rate, features.low, high, features.kind != "lfcc"),
            persistent=False,
        )
        self.register_buffer("cosines", dct_matrix(bands, features.count) if cepstra else None, persistent=False)

    def bands(self, wave: Tensor) -> Tensor:
        """``[B, S]`` → ``[B, F, T]``."""
        spectrum = torch.stft(
            wave,
            self.fft,
            self.hop,
            self.window_size,
            self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        values = torch.log(power.transpose(1, 2) @ self.filters + self.features.floor)
        if self.cosines is not None:
            values = values @ self.cosines
        if self.features.norm == "item":
            centred = values - values.mean(1, keepdim=True)
            values = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return values.transpose(1, 2)

    def arrange(self, bands: Tensor) -> Tensor:
        """``[B, F, T]`` → the layout of the model."""
        values = bands.transpose(1, 2) if self.layout.endswith("TF") else bands
        return values.unsqueeze(1) if self.layout.startswith("1") else values

    def frames(self, samples: int) -> int:
        """Frames of that many samples."""
        return samples // self.hop + 1

    def samples(self, frames: int) -> int:
        """The fewest samples that give so many frames."""
        return (frames - 1) * self.hop

    def lengths(self, samples: Tensor) -> Tensor:
        """Frames of each item, ``[B]``, of so many samples."""
        return samples // self.hop + 1

    def forward(self, wave: Tensor) -> Tensor:
        return self.arrange(self.bands(wave.squeeze(1) if wave.dim() == 3 else wave))


def band_filters(count: int, fft: int, rate: int, low: float, high: float, mel: bool) -> Tensor:
    """Triangular bands of peak 1, evenly spaced in mel or in Hz: ``[fft // 2 + 1, count]``; edges in Hz."""
    ends = [2595.0 * math.log10(1.0 + hz / 700.0) if mel else hz for hz in (low, high)]
    points = torch.linspace(ends[0], ends[1], count + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (points / 2595.0) - 1.0) if mel else points
    bins = torch.linspace(0.0, rate / 2, fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0).float()


def dct_matrix(bands: int, count: int) -> Tensor:
    """Orthonormal DCT-II, its first ``count`` coefficients: ``[bands, count]``."""
    n, k = torch.arange(bands, dtype=torch.float64)[:, None], torch.arange(count, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi / bands * (n + 0.5) * k) * math.sqrt(2.0 / bands)
    matrix[:, 0] /= math.sqrt(2.0)
    return matrix.float()


def layout_of(shape: tuple[int, ...], features: Features) -> str:
    """How a model of this example shape takes features.

    Raises:
        InputError: no dimension has as many values as the front end gives.
    """
    sizes = shape[1:]
    channel = "1" if len(sizes) == 3 and sizes[0] == 1 else ""
    rest = sizes[len(channel) :]
    if features.kind == "wave" and (len(sizes) == 1 or (len(sizes) == 2 and sizes[0] == 1)):
        return "S" if len(sizes) == 1 else "1S"
    if len(rest) == 2 and features.count in rest:
        return channel + ("FT" if rest[0] == features.count else "TF")
    if features.kind == "wave":
        raise InputError(
            f"the model takes {'x'.join(map(str, shape))}, where --features wave:1 gives BxS or Bx1xS samples"
        )
    raise InputError(
        f"the model takes {'x'.join(map(str, shape))}, where --features {features.kind}:{features.count} gives "
        f"Bx{features.count}xT, BxTx{features.count} or one of them with a channel"
    )


def time_of(shape: tuple[int, ...], layout: str) -> int:
    """Which dimension of an input is time."""
    return len(shape) - (1 if layout.endswith(("FT", "S")) else 2)


def with_frontend(captured: Captured, frontend: FrontEnd) -> Captured:
    """The model together with the front end before it: one that takes samples ``[B, S]``.

    Raises:
        InputError: the features do not fit the model.
        CaptureError: the two cannot be captured as one.
    """
    if len(captured.example_inputs) != 1:
        raise InputError("a front end can be put before models of one input alone: this one has several")
    shape = tuple(captured.example_inputs[0].shape)
    layout = layout_of(shape, frontend.features)
    if layout != frontend.layout:
        frontend = type(frontend)(frontend.features, frontend.rate, layout)
    frames = shape[time_of(shape, layout)]
    samples = max(frontend.samples(frames), 2 * frontend.shortest - 2)  # reflection needs half a window on both sides
    wave = 0.01 * torch.randn(shape[0], samples, generator=torch.Generator().manual_seed(0))
    return capture(nn.Sequential(OrderedDict(frontend=frontend, model=captured.copy())), (wave,))
