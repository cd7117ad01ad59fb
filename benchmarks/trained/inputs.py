"""The models' own front ends: what each makes of samples before its network, by the code of its authors where it has any.

Each takes samples ``[B, S]`` and returns the arguments of the network. They feed fits (``recipe.py``) and measures.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

FrontEnd = Callable[[Tensor, int], tuple[Tensor, ...]]


def _each(function: Callable[[np.ndarray], Any], samples: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.stack([torch.as_tensor(np.ascontiguousarray(function(x.numpy()))) for x in samples]).float()


def crepe(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Frames of 1,024 samples of no mean and unit deviation (torchcrepe/core.py, ``preprocess``): ``[B, 1024]``."""
    frames = samples - samples.mean(1, keepdim=True)
    return (frames / frames.std(1, keepdim=True).clamp(min=1e-10),)


def resemblyzer(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Mel energies ``[B, T, 40]``."""
    from resemblyzer.audio import wav_to_mel_spectrogram

    return (_each(wav_to_mel_spectrogram, samples)[:, : samples.shape[1] // 160],)


@functools.cache
def _fcpe_mel() -> Any:
    from torchfcpe.mel_extractor import Wav2MelModule

    return Wav2MelModule(16_000, 128, 1024, 1024, 160, 0, 8000)


def fcpe(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Log-mel energies ``[B, T, 128]``."""
    return (_fcpe_mel()(samples.unsqueeze(-1), rate)[:, : samples.shape[1] // 160],)


def gtcrn(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Spectra ``[B, 257, T, 2]`` (gtcrn/infer.py)."""
    window = torch.hann_window(512).pow(0.5)
    return (torch.view_as_real(torch.stft(samples, 512, 256, 512, window, return_complex=True)),)


def gpv(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Log-mel energies ``[B, T, 64]`` of a hop of 20 ms at 22,050 Hz (GPV/forward.py, ``extract_feature``)."""
    import librosa

    def mel(x: np.ndarray) -> np.ndarray:
        x = librosa.resample(x, orig_sr=rate, target_sr=22_050)
        return np.log(
            librosa.feature.melspectrogram(y=x, sr=22_050, n_fft=2048, n_mels=64, hop_length=441, win_length=882)
            + np.spacing(1)
        ).T

    return (_each(mel, samples)[:, : int(samples.shape[1] / rate * 50)],)


def nisqa(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Windows ``[B, N, 1, 48, 15]`` of a mel spectrogram in dB, and their number (NISQA_lib.py)."""
    import librosa
    from nisqa.NISQA_lib import segment_specs

    def windows(x: np.ndarray) -> Tensor:
        spectrogram = librosa.feature.melspectrogram(
            y=x, sr=rate, n_fft=4096, hop_length=rate // 100, win_length=rate // 50, power=1.0, n_mels=48, fmax=20_000
        )
        return segment_specs("", librosa.amplitude_to_db(spectrogram, ref=1.0, amin=1e-4, top_db=80.0), 15, 4)[0]

    found = _each(windows, samples)
    return found, torch.full((len(found),), found.shape[1])


@functools.cache
def _bc_resnet_mel() -> Any:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(sample_rate=16_000, n_fft=1024, f_max=8000, n_mels=40)


def bc_resnet(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Log-mel energies ``[B, 1, 40, T]`` (BC-ResNet/get_data.py, ``prepare_wav``)."""
    return ((_bc_resnet_mel()(samples.unsqueeze(1)) + 1e-9).log2(),)


def waveform(samples: Tensor, rate: int) -> tuple[Tensor, ...]:
    """Samples as they are."""
    return (samples,)


FRONT_ENDS: dict[str | None, FrontEnd] = {
    None: waveform,
    **{function.__name__: function for function in (crepe, resemblyzer, fcpe, gtcrn, gpv, nisqa, bc_resnet)},
}
