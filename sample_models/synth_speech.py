"""Synthetic speech with exact speech times, generated noises, and labelled mixtures of the two.

The speech comes from the espeak-ng library in the `espeakng-loader` wheel, so no recordings are needed. Its
phoneme events tell at which sample every sound and every pause starts, hence the labels are exact. It keeps
state between utterances that only unloading resets: each `say` loads it, speaks and unloads it (ca. 4 ms), so
that the result depends on the arguments alone. Another user of the same library file in the process would
lose its voice, and where the system does not unload libraries, repeated calls may differ slightly.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz
HOP = 160  # samples, 10 ms
CANVAS = 3 * SAMPLE_RATE  # samples
MIN_PAUSE = 0.05  # seconds; a shorter pause is articulation and stays in its speech segment
SILENCE = 1e-3  # of the utterance's peak; quieter edges, such as a stop's closure, are cut off a segment
SNR_RANGE = (-5.0, 20.0)  # dB
LEVEL_RANGE = (-35.0, -15.0)  # dB, RMS of the mixture against full scale
MEAN_GAP = 3.0  # seconds between utterances, so that about half of the frames are speech
MIN_SPEECH = 0.1  # seconds in every mixture, without which its SNR means nothing
SPLITS = ("train", "train", "train", "val", "test")  # split of every fifth voice and word in turn

# Voice variants without an echo, which would sound on after the labelled end of speech.
VARIANTS = [
    "m1",
    "f1",
    "m3",
    "m4",
    "m6",
    "linda",
    "steph",
    "Annie",
    "belinda",
    "Andrea",
    "m5",
    "m7",
    "whisper",
    "m8",
    "paul",
]
LANGUAGES = ["en-us", "en-gb-x-rp", "en-gb-scotland", "de", "fr", "es", "it", "nl", "pl", "pt", "sv", "cs", "fi", "tr"]
# Words which every language reads by its own rules, so that one list gives many sound systems.
WORDS = """
    banana telefon musica amsterdam hotel radio violin september taxi gorilla museum vulkan opera kilo rome
    chocolate jungle yoga fabrik wagon sultan panda quartet ozon theater london judo paprika zebra minute university
    delfin robot nickel karaoke balkan piano gustav safari elixir detail mango festival alibi
""".split()
NOISES = ("white", "pink", "brown", "modulated", "hum", "clicks")


@dataclass(frozen=True)
class Utterance:
    """Samples [N] at 16 kHz from the start of the first to the end of the last speech segment (seconds)."""

    samples: Floats
    segments: tuple[tuple[float, float], ...]
    voice: str
    text: str

    def mask(self) -> NDArray[np.bool_]:
        """True for every sample in a speech segment: [N]."""
        mask = np.zeros(len(self.samples), dtype=np.bool_)
        for start, end in self.segments:
            mask[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = True
        return mask


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h; `name` is the part of its union which phoneme events use."""

    _fields_ = [(name, ctypes.c_int) for name in ("type", "id", "position", "length", "time", "sample")]
    _fields_ += [("user_data", ctypes.c_void_p), ("name", ctypes.c_char * 8)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_LOCK = threading.Lock()  # the library is a single instance per process


def _wheel() -> tuple[str, str]:
    """Paths of the library and of its data directory."""
    try:
        import espeakng_loader  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('no espeakng-loader here: pip install "shrinkspeech[demo]"') from error
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _speak(text: str, voice: str, rate: int, pitch: int) -> tuple[Floats, int, list[tuple[int, bytes]]]:
    """Samples [N] at the library's own rate, that rate in Hz, and (first sample, name) of every phoneme."""
    path, data = _wheel()
    variant = voice.partition("+")[2]  # an unknown variant would silently be ignored
    if variant and not (Path(data) / "voices" / "!v" / variant).is_file():
        raise ValueError(f"unknown voice variant {variant!r} in {voice!r}")
    chunks: list[bytes] = []
    phonemes: list[tuple[int, bytes]] = []

    def receive(wave: int | None, count: int, events: Sequence[_Event]) -> int:
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type:  # 0 ends the list, 7 is a phoneme
            if events[index].type == 7:
                phonemes.append((events[index].sample, events[index].name))
            index += 1
        return 0

    callback = _Callback(receive)  # the library holds no reference: this name must outlive the synthesis
    with _LOCK:
        library = ctypes.CDLL(path)
        try:
            # 2: synchronous output without a sound device; 1 | 0x8000: phoneme events, no exit() on errors
            native = library.espeak_Initialize(2, 0, data.encode(), 1 | 0x8000)
            if native <= 0:
                raise RuntimeError(f"espeak-ng cannot use its data in {data} (too long a path?)")
            if library.espeak_SetVoiceByName(voice.encode()):
                raise ValueError(f"unknown voice {voice!r}")
            library.espeak_SetSynthCallback(callback)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            library.espeak_SetParameter(1, rate, 0)
            library.espeak_SetParameter(3, pitch, 0)
            raw = text.encode() + b"\0"  # UTF-8, spoken from position 0 to the end
            library.espeak_Synth(raw, ctypes.c_size_t(len(raw)), 0, 1, 0, 1, None, None)
            library.espeak_Synchronize()
        finally:
            library.espeak_Terminate()
            getattr(_ctypes, "FreeLibrary" if os.name == "nt" else "dlclose")(library._handle)
    return np.frombuffer(b"".join(chunks), dtype=np.int16).astype(np.float32) / 32768.0, native, phonemes


def _spans(samples: Floats, native: int, phonemes: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Speech spans in samples at 16 kHz: sounds between pauses, without digital silence at the edges."""
    spans: list[list[int]] = []
    ends = [start for start, _ in phonemes[1:]] + [len(samples)]
    for (start, name), end in zip(phonemes, ends, strict=True):
        if name.startswith(b"_"):  # all pauses: "_", "_:", "_|", ...
            continue
        if spans and start - spans[-1][1] < MIN_PAUSE * native:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    loud = np.flatnonzero(np.abs(samples) > SILENCE * np.abs(samples).max(initial=0.0))
    inside = [loud[(loud >= start) & (loud < end)] for start, end in spans]
    edges = [(int(where[0]), int(where[-1])) for where in inside if len(where)]
    return [(first * SAMPLE_RATE // native, last * SAMPLE_RATE // native + 1) for first, last in edges]


def say(text: str, voice: str, rate: int = 175, pitch: int = 50) -> Utterance:
    """Speak `text` with a voice such as "de" or "en-us+m3"; the same arguments give the same samples.

    `rate` is in words per minute, 80 to 450; `pitch` is 0 to 99. Raises ValueError for other values, an
    unknown voice or a text without a sound, and ModuleNotFoundError without espeakng-loader.
    """
    if not 80 <= rate <= 450 or not 0 <= pitch <= 99:
        raise ValueError(f"rate must be 80 to 450 and pitch 0 to 99, not {rate} and {pitch}")
    native_samples, native, phonemes = _speak(text, voice, rate, pitch)
    spans = _spans(native_samples, native, phonemes) if phonemes else []
    if not spans:
        raise ValueError(f"nothing to say in {text!r}")
    first, last = spans[0][0], spans[-1][1]
    samples = soxr.resample(native_samples, native, SAMPLE_RATE)[first:last]
    segments = tuple(((start - first) / SAMPLE_RATE, (end - first) / SAMPLE_RATE) for start, end in spans)
    return Utterance(np.asarray(samples, dtype=np.float32), segments, voice, text)


def corpus(seed: int, count: int, split: str = "train") -> list[Utterance]:
    """`count` random utterances of two to eight words; voices and words of the splits are disjoint."""
    if split not in SPLITS:
        raise ValueError(f"split must be train, val or test, not {split!r}")
    variants, words = ([x for i, x in enumerate(y) if SPLITS[i % 5] == split] for y in (VARIANTS, WORDS))
    rng, utterances = np.random.default_rng(seed), []
    for _ in range(count):
        chosen = rng.choice(words, rng.integers(2, 9), replace=False)
        text = "".join(word + rng.choice([" ", " ", " ", ", "]) for word in chosen).strip(" ,")
        voice = f"{rng.choice(LANGUAGES)}+{rng.choice(variants)}"
        utterances.append(say(text, voice, int(rng.integers(120, 260)), int(rng.integers(20, 81))))
    return utterances


def noise(rng: int | np.random.Generator, samples: int, kind: str) -> Floats:
    """Noise of a kind in NOISES with RMS 1, from a seed or a generator: [samples], at least 16."""
    if kind not in NOISES or samples < 16:
        raise ValueError(f"need a kind among {NOISES} and at least 16 samples, not {kind!r} and {samples}")
    rng = np.random.default_rng(rng)
    time, hz = np.arange(samples) / SAMPLE_RATE, np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    wave, low, phases = rng.standard_normal(samples), rng.uniform(100.0, 2_000.0), rng.uniform(0.0, 6.3, 16)
    if kind == "hum":  # of the mains
        base = 2.0 * np.pi * rng.choice([50.0, 60.0]) * time
        for k, phase in enumerate(phases, start=1):  # harmonics over the white noise, which stays as a floor
            wave += rng.uniform(0.0, 30.0) / k * np.sin(k * base + phase)
    elif kind == "clicks":  # ringing impulses
        hits = wave * (rng.random(samples) < rng.uniform(2.0, 20.0) / SAMPLE_RATE)
        ring = np.exp(-time * rng.uniform(200.0, 1_500.0)) * np.cos(2.0 * np.pi * low * time)
        wave = 0.01 * wave + np.fft.irfft(np.fft.rfft(hits) * np.fft.rfft(ring), samples)
    elif kind == "modulated":  # a swelling band
        band = (hz >= low) & (hz < low * rng.uniform(2.0, 8.0))
        swell = np.sin(2.0 * np.pi * rng.uniform(0.5, 8.0) * time + phases[0])
        wave = np.fft.irfft(np.fft.rfft(wave) * band, samples) * (1.0 + rng.uniform(0.5, 1.0) * swell)
    else:
        slope = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
        wave = np.fft.irfft(np.fft.rfft(wave) * np.maximum(hz, 20.0) ** -slope, samples)
    return (wave / _rms(wave)).astype(np.float32)


def _rms(wave: NDArray[np.floating]) -> float:
    """Root mean square, with a floor that keeps digital silence silent."""
    return max(float(np.sqrt(np.mean(np.square(wave)))), 1e-6)


class SynthMixtures:
    """Endless seeded mixtures of one split, of three seconds each, with 10 ms speech labels."""

    def __init__(self, seed: int, utterances: int = 200, split: str = "train") -> None:
        clips = ((clip.samples, clip.mask()) for clip in corpus(seed, utterances, split))
        self.clips = [(samples / _rms(samples[mask]), mask) for samples, mask in clips]
        self.seeds = (seed, SPLITS.index(split))
        self.rng = np.random.default_rng(self.seeds)

    def batch(self, batch_size: int, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Next mixtures of the stream: wave [B, CANVAS] and 0/1 labels [B, CANVAS // HOP + 1], float32."""
        parts = [self.mixture(rng or self.rng) for _ in range(batch_size)]
        wave = np.stack([speech + interference for speech, interference, _, _ in parts])
        return torch.from_numpy(wave), torch.from_numpy(np.stack([labels for _, _, labels, _ in parts]))

    def fixed(self, n: int, batch_size: int = 32) -> list[tuple[Tensor, Tensor]]:
        """The same `n` mixtures for the same seed on every call, in batches as `batch` returns them."""
        rng = np.random.default_rng([*self.seeds, 1])
        return [self.batch(min(batch_size, n - start), rng) for start in range(0, n, batch_size)]

    def mixture(self, rng: np.random.Generator) -> tuple[Floats, Floats, Floats, float]:
        """A mixture: speech and noise [CANVAS], labels [frames] at the samples k * HOP, and SNR in dB."""
        speech, mask = self._speech(rng)
        interference, snr = noise(rng, CANVAS, str(rng.choice(NOISES))), float(rng.uniform(*SNR_RANGE))
        interference *= _rms(speech[mask[:-1]]) / 10.0 ** (snr / 20.0)
        gain = 10.0 ** (rng.uniform(*LEVEL_RANGE) / 20.0) / _rms(speech + interference)
        gain = min(gain, 1.0 / float(np.abs(speech + interference).max()))  # never above full scale
        return speech * gain, interference * gain, mask[::HOP].astype(np.float32), snr

    def _speech(self, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        """Utterances, give or take 3 dB, between random gaps: wave [CANVAS] and speech mask [CANVAS + 1]."""
        wave, mask = np.zeros(CANVAS, dtype=np.float32), np.zeros(CANVAS + 1, dtype=np.bool_)
        while mask.sum() < MIN_SPEECH * SAMPLE_RATE:
            start = -int(rng.uniform(0.0, 9.0) * SAMPLE_RATE)  # early, so that either may cross the left edge
            wave[:], mask[:] = 0.0, False
            while start < CANVAS:
                samples, speech = self.clips[int(rng.integers(len(self.clips)))]
                here, skip = slice(max(start, 0), max(start + len(samples), 0)), max(-start, 0)
                wave[here] = (samples * 10.0 ** (rng.uniform(-3.0, 3.0) / 20.0))[skip:][: len(wave[here])]
                mask[here] = speech[skip:][: len(mask[here])]
                start += len(samples) + int(rng.exponential(MEAN_GAP) * SAMPLE_RATE)
        return wave, mask
