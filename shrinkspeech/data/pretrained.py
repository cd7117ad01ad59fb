"""Front ends that public pretrained models were trained with, as modules that can be exported with the model.

    wave:1,norm=item                                          samples of mean 0 and variance 1 (Wav2Vec2FeatureExtractor)
    kaldi:128,frames=1024,mean=-4.2677393,deviation=9.1379948 log-mel energies as Kaldi has them (ASTFeatureExtractor)
    whisper:80,frames=3000                                    log-mel energies as Whisper has them (WhisperFeatureExtractor)

``frames`` is the number that the model takes: shorter audio is filled up, longer is cut off.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shrinkspeech.data.frontend import Features, FrontEnd
from shrinkspeech.errors import InputError

PREEMPHASIS = 0.97
KALDI_FLOOR = 1.192092955078125e-07
"""Of an energy, as Kaldi has it."""


def front_end(features: Features, rate: int, layout: str | None = None) -> FrontEnd:
    """The front end of a kind.

    Raises:
        InputError: it cannot be built at this rate.
    """
    kinds: dict[str, type[FrontEnd]] = {"wave": Wave, "kaldi": Kaldi, "whisper": Whisper}
    kind = kinds.get(features.kind, FrontEnd)
    return kind(features, rate) if layout is None else kind(features, rate, layout)


class Wave(FrontEnd):
    """``[B, S]`` → ``[B, S]`` or ``[B, 1, S]``, each item with mean 0 and variance 1 where ``norm=item``."""

    def __init__(self, features: Features, rate: int, layout: str = "S") -> None:
        nn.Module.__init__(self)
        self.features, self.rate, self.layout, self.hop, self.shortest = features, rate, layout, 1, 1

    def bands(self, wave: Tensor) -> Tensor:
        if self.features.norm == "none":
            return wave
        centred = wave - wave.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-7).sqrt()

    def arrange(self, bands: Tensor) -> Tensor:
        return bands.unsqueeze(1) if self.layout.startswith("1") else bands

    def frames(self, samples: int) -> int:
        return samples

    def samples(self, frames: int) -> int:
        return frames

    def lengths(self, samples: Tensor) -> Tensor:
        return samples


class Kaldi(FrontEnd):
    """Log-mel energies of frames without their mean, with pre-emphasis; no frame reaches beyond the ends.

    The window is 0 at its first sample, so that pre-emphasis may run over the edge of a frame, and what it leaves of a frame's
    mean is a multiple of the window: frames need not be cut out, and the kernels are a Fourier transform as any other.
    """

    kernels: Tensor
    centre: Tensor

    def __init__(self, features: Features, rate: int, layout: str = "FT") -> None:
        nn.Module.__init__(self)
        self.features, self.rate, self.layout = features, rate, layout
        self.window_size = round(features.window * rate / 1000)
        self.hop, self.fft = round(features.hop * rate / 1000), features.fft or 1 << (self.window_size - 1).bit_length()
        self.shortest = self.window_size
        high = features.high or rate // 2
        if self.fft < self.window_size or not 0 <= features.low < high <= rate / 2:
            raise InputError(
                f"the front end kaldi:{features.count} cannot be built at {rate} Hz: give another window, fft or high"
            )
        kernels = _kernels(self.window_size, self.fft)
        self.register_buffer("kernels", kernels.float(), persistent=False)
        self.register_buffer(
            "centre", ((1.0 - PREEMPHASIS) * kernels.sum(2, keepdim=True)).float()[:, 0], persistent=False
        )
        filters = mel_triangles(features.count, self.fft, rate, features.low, high)
        self.register_buffer("filters", filters, persistent=False)

    def bands(self, wave: Tensor) -> Tensor:
        emphasised = wave - PREEMPHASIS * F.pad(wave[:, :-1], (1, 0))
        means = F.avg_pool1d(wave.unsqueeze(1), self.window_size, self.hop)
        parts = F.conv1d(emphasised.unsqueeze(1), self.kernels, stride=self.hop) - self.centre * means
        power = parts.square().unflatten(1, (2, -1)).sum(1)
        energies = (power.transpose(1, 2) @ self.filters).clamp_min(KALDI_FLOOR).log()
        if self.features.frames is not None:
            energies = _exactly(energies, self.features.frames)
        return ((energies - self.features.mean) / self.features.deviation).transpose(1, 2)

    def frames(self, samples: int) -> int:
        return self.features.frames or (samples - self.window_size) // self.hop + 1

    def samples(self, frames: int) -> int:
        return (frames - 1) * self.hop + self.window_size


class Whisper(FrontEnd):
    """Logarithms to the base of ten of mel energies, at most 8 below the highest, scaled; 400 points, a hop of 160."""

    def __init__(self, features: Features, rate: int, layout: str = "FT") -> None:
        nn.Module.__init__(self)
        self.features, self.rate, self.layout = features, rate, layout
        self.window_size = self.fft = 400
        self.hop, self.shortest = 160, 201
        self.register_buffer("window", torch.hann_window(400), persistent=False)
        self.register_buffer("filters", slaney_filters(features.count, 400, rate), persistent=False)

    def bands(self, wave: Tensor) -> Tensor:
        if self.features.frames is not None:
            wave = F.pad(wave, (0, self.features.frames * self.hop - wave.shape[-1]))
        spectrum = torch.stft(wave, 400, 160, 400, self.window, center=True, pad_mode="reflect", return_complex=True)
        power = torch.view_as_real(spectrum[..., :-1]).square().sum(-1)
        values = (power.transpose(1, 2) @ self.filters).clamp_min(1e-10).log10()
        values = torch.maximum(values, values.amax((1, 2), keepdim=True) - 8.0)
        return ((values + 4.0) / 4.0).transpose(1, 2)

    def frames(self, samples: int) -> int:
        return self.features.frames or samples // self.hop

    def samples(self, frames: int) -> int:
        return frames * self.hop


def _exactly(energies: Tensor, frames: int) -> Tensor:
    """``[B, frames, F]``: cut off, or filled up with zeros."""
    return F.pad(energies, (0, 0, 0, frames - energies.shape[1]))


def _kernels(window: int, fft: int) -> Tensor:
    """Real parts, then imaginary parts of the transform of a symmetric Hann window's frames: ``[2 (fft/2 + 1), 1, window]``."""
    spectrum = torch.fft.rfft(torch.diag(torch.hann_window(window, periodic=False, dtype=torch.float64)), fft, dim=0)
    return torch.cat([spectrum.real, spectrum.imag]).unsqueeze(1)


def mel_triangles(count: int, fft: int, rate: int, low: float, high: float) -> Tensor:
    """Kaldi's bands: triangles over mel, 1127 ln(1 + f/700), of peak 1: ``[fft // 2 + 1, count]``; edges in Hz."""

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log(1.0 + hz / 700.0)

    ends = mel(torch.tensor([low, high], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), count + 2, dtype=torch.float64)
    bins = mel(torch.linspace(0.0, rate / 2, fft // 2 + 1, dtype=torch.float64))[:, None]
    return _triangles(bins, edges).float()


def slaney_filters(count: int, fft: int, rate: int) -> Tensor:
    """Bands after Slaney's Auditory Toolbox, linear up to 1 kHz and of area 1: ``[fft // 2 + 1, count]``."""
    top = rate / 2
    step = math.log(6.4) / 27.0
    highest = 15.0 + math.log(top / 1000.0) / step if top >= 1000.0 else 3.0 * top / 200.0
    mels = torch.linspace(0.0, highest, count + 2, dtype=torch.float64)
    edges = torch.where(mels >= 15.0, 1000.0 * torch.exp(step * (mels - 15.0)), 200.0 * mels / 3.0)
    bins = torch.linspace(0.0, top, fft // 2 + 1, dtype=torch.float64)[:, None]
    return (_triangles(bins, edges) * (2.0 / (edges[2:] - edges[:-2]))).float()


def _triangles(bins: Tensor, edges: Tensor) -> Tensor:
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0)
