"""Measures of a model before and after, on the audio that no fit has met (split ``test``).

Each returns the name of the measure with its unit, and its value for the original and for the small model. Where the
audio has no truth (pitch, opinion scores), the original's output stands for it.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.trained.audio import cut, mixed, rows, samples, wide
from benchmarks.trained.inputs import FRONT_ENDS
from benchmarks.trained.measuring import Run, seconds_of
from benchmarks.trained.models import Model
from shrinkspeech.tasks.metrics import eer

Result = tuple[str, float, float]
Metric = Callable[[Model, Run, Run], Result]

ITEMS = 80
BATCH = 4


def _clips(model: Model, paths: list[str]) -> Iterator[Tensor]:
    """Batches ``[B, S]`` of middle pieces as long as the model's example."""
    length = round(seconds_of(model) * model.rate)
    for start in range(0, len(paths) - len(paths) % BATCH, BATCH):
        pieces = [cut(samples(path, model.rate), length) for path in paths[start : start + BATCH]]
        yield torch.from_numpy(np.stack(pieces))


def _speech(items: int = ITEMS) -> list[str]:
    found = [row["path"] for row in wide("test") if row["corpus"].startswith("librispeech")]
    return random.Random(1).sample(found, min(items, len(found)))


def _outputs(model: Model, run: Run, paths: list[str]) -> np.ndarray:
    made = [run(FRONT_ENDS[model.inputs](x, model.rate))[model.output] for x in _clips(model, paths)]
    return np.concatenate(made)


def distance(model: Model, before: Run, after: Run) -> Result:
    """Root of the mean square difference from the original's outputs, relative to their deviation."""
    x, y = (_outputs(model, run, _speech(40)) for run in (before, after))
    return "distance to the original, % of its deviation", 0.0, float(100 * np.sqrt(np.mean((x - y) ** 2)) / np.std(x))


def pitch(model: Model, before: Run, after: Run) -> Result:
    """Frames of clear pitch (original above 0.5) with the best of bins of 20 cents within 50 of the original's."""
    x, y = (_frames(model, run) for run in (before, after))
    clear = x.max(-1) > 0.5
    near = np.abs(x.argmax(-1) - y.argmax(-1)) * 20 <= 50
    return "pitch within 50 cents of the original's, % of clear frames", 100.0, float(100 * near[clear].mean())


def _frames(model: Model, run: Run) -> np.ndarray:
    """Outputs ``[…, bins]``; several pieces of each clip where the model takes frames."""
    paths = _speech()
    if seconds_of(model) > 0.5:
        return _outputs(model, run, paths)
    length = round(seconds_of(model) * model.rate)
    pieces = [cut(samples(path, model.rate), length, at) for path in paths for at in (0.2, 0.35, 0.5, 0.65, 0.8)]
    batches = [torch.from_numpy(np.stack(pieces[i : i + BATCH])) for i in range(0, len(pieces), BATCH)]
    return np.concatenate([run(FRONT_ENDS[model.inputs](x, model.rate))[model.output] for x in batches])


def semitones(model: Model, before: Run, after: Run) -> Result:
    """The same of a model that returns semitones and how sure it is of them."""
    found = []
    for run in (before, after):
        found.append([np.concatenate(x) for x in zip(*(run((x,))[:2] for x in _clips(model, _speech())), strict=True)])
    (x, sure), (y, _) = found
    near = np.abs(x - y) <= 0.5
    return "pitch within 50 cents of the original's, % of clear frames", 100.0, float(100 * near[sure > 0.5].mean())


def speaker(model: Model, before: Run, after: Run) -> Result:
    """Equal error rate over all pairs of clips of at most six clips of a speaker, by the cosine of embeddings."""
    clips: dict[str, list[str]] = defaultdict(list)
    for row in wide("test"):
        if float(row["seconds"]) >= 1.6 and len(clips[row["speaker"]]) < 6:
            clips[row["speaker"]].append(row["path"])
    paths = [path for found in clips.values() if len(found) > 1 for path in found]
    paths = paths[: len(paths) - len(paths) % BATCH]
    speakers = {path: name for name, found in clips.items() for path in found}
    same = np.array([speakers[a] == speakers[b] for a, b in itertools.combinations(paths, 2)])
    errors = []
    for run in (before, after):
        x = _outputs(model, run, paths)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        errors.append(eer((x @ x.T)[np.triu_indices(len(x), 1)], same))
    return "EER of speakers, %", errors[0], errors[1]


def _vad(channel: int) -> Metric:
    def vad(model: Model, before: Run, after: Run) -> Result:
        """Equal error rate of frames of 20 ms of speech with noise at 5 dB against the segments of the manifest."""
        drawn, length = random.Random(2), round(seconds_of(model) * model.rate)
        speech = drawn.sample(wide("test"), ITEMS)
        noise = [row for row in rows("noise", "test") if row["human_voice"] == "no"]
        scores: list[list[np.ndarray]] = [[], []]
        labels = []
        for row in speech:
            clip = samples(row["path"], model.rate)
            other = cut(samples(drawn.choice(noise)["path"], model.rate), length, repeat=True)
            piece = np.pad(clip[:length], (0, max(0, length - len(clip))))
            x = torch.from_numpy(mixed(piece, other, 5.0))[None]
            inputs = FRONT_ENDS[model.inputs](x, model.rate)
            for run, found in zip((before, after), scores, strict=True):
                found.append(run(inputs)[model.output][0, :, channel])
            labels.append(_labels(row["speech_segments"], len(scores[0][-1]), seconds_of(model)))
        truth = np.concatenate(labels) > 0.5
        return "EER of frames at 5 dB, %", *(eer(np.concatenate(found), truth) for found in scores)

    return vad


def _labels(segments: str, frames: int, seconds: float) -> np.ndarray:
    times = (np.arange(frames) + 0.5) * seconds / frames
    ranges = [tuple(map(float, part.split("-"))) for part in segments.split(";") if part]
    return np.array([any(low <= t < high for low, high in ranges) for t in times], dtype=float)


def spoof(model: Model, before: Run, after: Run) -> Result:
    """Equal error rate of bona fide against spoofed clips, by the score of the second output (bona fide)."""
    drawn, length = random.Random(3), round(seconds_of(model) * model.rate)
    kept = [r for label in ("bonafide", "spoof") for r in _some(drawn, rows("spoof", "test"), label, 30)]
    clips = [samples(row["path"], model.rate, float(row["start"]), float(row["dur"])) for row in kept]
    pieces = torch.from_numpy(np.stack([cut(clip, length, 0.0, repeat=True) for clip in clips]))
    scores = []
    for run in (before, after):
        found = np.concatenate([run((pair,))[model.output] for pair in pieces.split(2)])
        scores.append(found[:, -1] - found[:, 0])
    truth = np.array([row["label"] == "bonafide" for row in kept])
    return "EER of spoofs, %", *(eer(found, truth) for found in scores)


def _some(drawn: random.Random, table: tuple[dict[str, str], ...], label: str, number: int) -> list[dict[str, str]]:
    return drawn.sample([row for row in table if row["label"] == label], number)


def _mixtures(model: Model) -> Iterator[tuple[Tensor, Tensor]]:
    """Noisy and clean pieces, ``[1, S]``, at 5 dB."""
    drawn, length = random.Random(4), round(seconds_of(model) * model.rate)
    for path in _speech(40):
        clean = cut(samples(path, model.rate), length)
        noise = cut(samples(drawn.choice(rows("noise", "test"))["path"], model.rate), length, repeat=True)
        noisy = mixed(clean, noise, 5.0)
        yield torch.from_numpy(noisy)[None], torch.from_numpy(clean)[None]


def si_sdr(estimate: Tensor, clean: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, of ``[1, S]``."""
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as ratio

    return float(ratio(estimate, clean))


def enhance(model: Model, before: Run, after: Run) -> Result:
    """SI-SDR of what is made of speech with noise at 5 dB."""
    pairs = list(_mixtures(model))
    return "SI-SDR at 5 dB, dB", *(
        float(
            np.mean([si_sdr(torch.from_numpy(run((noisy,))[0])[:, : clean.shape[1]], clean) for noisy, clean in pairs])
        )
        for run in (before, after)
    )


def spectra(model: Model, before: Run, after: Run) -> Result:
    """The same of a model that takes and returns spectra of 512 points every 256 samples."""
    window, pairs = torch.hann_window(512).pow(0.5), list(_mixtures(model))
    found = []
    for run in (before, after):
        ratios = []
        for noisy, clean in pairs:
            made = torch.from_numpy(run(FRONT_ENDS["gtcrn"](noisy, model.rate))[0]).contiguous()
            wave = torch.istft(torch.view_as_complex(made), 512, 256, 512, window)
            length = min(wave.shape[1], clean.shape[1])
            ratios.append(si_sdr(wave[:, :length], clean[:, :length]))
        found.append(float(np.mean(ratios)))
    return "SI-SDR at 5 dB, dB", found[0], found[1]


def mos(model: Model, before: Run, after: Run) -> Result:
    """Mean difference from the original's opinion score, in points of the scale from 1 to 5."""
    x, y = (_outputs(model, run, _speech())[:, 0] for run in (before, after))
    return "distance from the original's opinion score, points", 0.0, float(np.abs(x - y).mean())


def digits(model: Model, before: Run, after: Run) -> Result:
    """Spoken digits that are recognised, of the 35 words that the model knows."""
    places = [34, 21, 29, 27, 10, 7, 25, 23, 6, 17]  # of zero to nine among the labels of get_data.py
    table = random.Random(5).sample([row for row in rows("speech", "test") if row["corpus"] == "fsdd"], ITEMS)
    truth = np.array([places[int(row["text_or_label"])] for row in table])
    length = round(seconds_of(model) * model.rate)
    clips = torch.from_numpy(np.stack([cut(samples(row["path"], model.rate), length) for row in table]))
    inputs = FRONT_ENDS[model.inputs](clips, model.rate)
    rates = [float(100 * (run(inputs)[0].argmax(-1) == truth).mean()) for run in (before, after)]
    return "digits recognised, %", rates[0], rates[1]


METRICS: dict[str, Metric] = {
    "vad": _vad(1),
    "vad_527": _vad(418),  # the place of "Speech" among its 527 labels
    **{f.__name__: f for f in (distance, pitch, semitones, speaker, spoof, enhance, spectra, mos, digits)},
}
