"""Front ends of public pretrained models against their definitions, and what a folder says of its input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shrinkspeech import capture
from shrinkspeech.data.frontend import parse_features, with_frontend
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.pretrained import front_end, mel_triangles, slaney_filters
from shrinkspeech.errors import InputError, LoadError
from shrinkspeech.loading.processors import Folder, is_folder, read_folder
from shrinkspeech.tasks.intake import audio_seconds, find_intake, lendable
from tests.audio_files import corpus
from tests.task_cases import net, recipe

WAVE = (0.1 * np.random.default_rng(0).standard_normal(2_000) + 0.05).astype(np.float32)


def features(text: str, rate: int = 16_000, samples: int | None = None) -> np.ndarray:
    return front_end(parse_features(text), rate)(torch.from_numpy(WAVE[:samples])[None])[0].numpy()


def test_samples_of_mean_zero_and_variance_one() -> None:
    found = features("wave:1,norm=item")
    assert found.shape == WAVE.shape
    assert np.allclose(found, (WAVE - WAVE.mean()) / np.sqrt(WAVE.var() + 1e-7), atol=1e-5)
    assert np.array_equal(features("wave:1"), WAVE)


def test_energies_as_kaldi_has_them() -> None:
    """Frame by frame in numpy: mean away, pre-emphasis, symmetric Hann window, triangles over mel."""
    bins, edges = (1127 * np.log(1 + np.array(hz) / 700) for hz in (np.linspace(0, 8000, 257), [20, 8000]))
    points = np.linspace(*edges, 12)
    triangles = [
        np.clip(np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)), 0, None)
        for low, mid, high in zip(points[:-2], points[1:-1], points[2:], strict=True)
    ]
    wanted = []
    for start in range(0, 2_000 - 400 + 1, 160):
        frame = WAVE[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.concatenate([[frame[0] * 0.03], frame[1:] - 0.97 * frame[:-1]]) * np.hanning(400)
        power = np.abs(np.fft.rfft(frame, 512)) ** 2
        wanted.append(np.log(np.maximum(np.array(triangles) @ power, 2.0**-23)))
    plain = features("kaldi:10")
    assert plain.shape == (10, 11)
    assert np.allclose(plain, np.array(wanted).T, atol=1e-3)
    longer, shorter = features("kaldi:10,frames=13,mean=-4,deviation=9"), features("kaldi:10,frames=7")
    assert np.allclose(longer[:, :11], (plain + 4) / 9, atol=1e-5)
    assert np.allclose(longer[:, 11:], 4 / 9), "what is filled up is zero before mean and deviation"
    assert np.array_equal(shorter, plain[:, :7])


def test_energies_as_whisper_has_them() -> None:
    found = features("whisper:20,frames=12")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(WAVE[:1920], 200, mode="reflect")
    frames = np.array([padded[160 * i : 160 * i + 400] * window for i in range(12)])
    energies = np.abs(np.fft.rfft(frames)) ** 2 @ slaney_filters(20, 400, 16_000).numpy()
    values = np.log10(np.maximum(energies, 1e-10))
    assert found.shape == (20, 12)
    assert np.allclose(found, ((np.maximum(values, values.max() - 8) + 4) / 4).T, atol=1e-5)
    assert features("whisper:20,frames=20").shape == (20, 20)


def test_bands_of_area_one_and_of_peak_one() -> None:
    slaney, kaldi = slaney_filters(40, 400, 16_000), mel_triangles(40, 512, 16_000, 20.0, 8_000.0)
    wide = slaney[:, -5:].sum(0) * 40  # bins are 40 Hz apart
    assert torch.allclose(wide, torch.ones(5), atol=0.02)
    assert 0.9 < float(kaldi[:, -1].max()) <= 1
    assert slaney[:, 0].argmax() == 2  # the first band of 40 below 1 kHz lies at 75.6 Hz


@pytest.mark.parametrize("layout", ["S", "1S"])
def test_normalised_samples_reach_the_model(tmp_path: Path, layout: str) -> None:
    if layout == "S":
        captured = net(2, lambda y: y.mean(2))
    else:
        captured = capture(
            nn.Sequential(nn.Conv1d(1, 4, 8, 8), nn.Flatten(), nn.Linear(1000, 2)).eval(), (torch.randn(2, 1, 2_000),)
        )
    made = recipe("classify", captured, corpus(tmp_path), features="wave:1,norm=item")
    batch = made.peek()
    (x,) = made.inputs(batch)
    assert x.shape[1:] == ((2_000,) if layout == "S" else (1, 2_000))
    assert torch.allclose(x.mean(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(x.square().mean(-1), torch.ones(()), atol=1e-2)
    assert made.facts()["features"] == "wave:1,norm=item"
    joined = with_frontend(captured, made.source.train_items.frontend)
    wave = torch.randn(3, 2_000)
    normed = front_end(parse_features("wave:1,norm=item"), 8_000, layout)(wave)
    assert torch.allclose(joined.graph_module(wave), captured.graph_module(normed), atol=1e-5)


def test_what_cannot_be_is_refused() -> None:
    frames = capture(nn.Sequential(nn.Conv1d(8, 2, 3), nn.ReLU()).eval(), (torch.randn(2, 8, 30),))
    with pytest.raises(InputError, match="where --features wave:1 gives BxS or Bx1xS"):
        find_intake(frames, DataOptions(Path(), features="wave:1"))
    with pytest.raises(InputError, match="this model takes samples: leave it out"):
        find_intake(net(2), DataOptions(Path(), features="wave:1", masks=2))
    with pytest.raises(InputError, match="kaldi:10 cannot be built at 8000 Hz"):
        front_end(parse_features("kaldi:10,fft=64"), 8_000)
    for text in ("kaldi:10,deviation=0", "kaldi:10,frames=-1"):
        with pytest.raises(InputError, match="cannot read --features"):
            parse_features(text)


def test_seconds_and_examples() -> None:
    frames = capture(nn.Sequential(nn.Conv1d(8, 2, 3), nn.ReLU()).eval(), (torch.randn(2, 8, 30),))
    assert audio_seconds(frames, "kaldi:8", 16_000) == (29 * 160 + 400) / 16_000
    assert audio_seconds(frames, "whisper:8", 16_000) == 0.3
    assert audio_seconds(net(2), "wave:1", 8_000) == 0.25
    assert [x.shape for (x,) in lendable(DataOptions(Path(), crop=0.1, features="wave:1"))] == [(2, 1_600)]


AST = {"feature_extractor_type": "ASTFeatureExtractor", "num_mel_bins": 64, "max_length": 100, "sampling_rate": 8_000}
WHISPER = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "nb_max_frames": 200,
    "n_fft": 400,
    "hop_length": 160,
}
W2V = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}


@pytest.mark.parametrize(
    ("processor", "expected", "note"),
    [
        (W2V, "wave:1,norm=item", "a recipe must do it itself"),
        ({**W2V, "do_normalize": False}, None, ""),
        (AST, "kaldi:64,frames=100,mean=-4.2677393,deviation=9.1379948", "of audio at 8000 Hz"),
        ({**AST, "do_normalize": False, "mean": 3}, "kaldi:64,frames=100", "of audio at 8000 Hz"),
        (WHISPER, "whisper:80,frames=200", "a recipe must do it itself"),
        ({**WHISPER, "n_fft": 512}, None, "is not known here: give --features"),
        ({**WHISPER, "do_normalize": True}, None, "is not known here: give --features"),
        ({"feature_extractor_type": "SeamlessM4TFeatureExtractor"}, None, "is not known here: give --features"),
        ({}, None, "holds no preprocessor_config.json: audio is fed as it is, at 16000 Hz"),
    ],
)
def test_what_a_processor_does(processor: dict[str, Any], expected: str | None, note: str) -> None:
    folder = Folder(Path("model"), {}, processor)
    assert folder.features == expected
    assert note in "".join(folder.notes)
    assert bool(folder.notes) == bool(note)
    if expected is not None:
        front_end(parse_features(expected), folder.rate)


def test_labels_and_examples_of_a_configuration() -> None:
    labels = {"id2label": {"10": "c", "2": "b", "0": "a"}}
    assert Folder(Path(), labels).labels == ("a", "b", "c")
    assert Folder(Path(), {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}).labels == ()
    waves = Folder(Path(), {"conv_dim": [8], "conv_stride": [5]}, {**W2V, "sampling_rate": 8_000})
    assert [x.shape for x in waves.example() or ()] == [(2, 8_000)]
    spectra = Folder(Path(), {"num_mel_bins": 64, "max_length": 100, "patch_size": 16})
    assert [x.shape for x in spectra.example() or ()] == [(2, 100, 64)]
    assert Folder(Path(), {"vocab_size": 3}).example() is None


def test_folders_are_read(tmp_path: Path) -> None:
    assert not is_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x"}))
    assert is_folder(tmp_path)
    assert read_folder(tmp_path).processor == {}
    for text, said in (("{", "is not JSON"), ("[]", "holds no configuration but a list")):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(LoadError, match=said):
            read_folder(tmp_path)
