"""Tasks: models and data that do not fit are refused in one sentence; lengths are handed on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.tasks.base import TaskOptions
from tests.audio_files import LENGTH, corpus, noises
from tests.task_cases import Net, net, of_labels, recipe

UNFIT = {
    "vad-classes": ("vad", lambda x: x, 3, "the model returns 4x3x26, where the task 'vad' needs 4xT, 4xTx1 or 4xTx2"),
    "classify-frames": (
        "classify",
        lambda x: x.squeeze(1),
        1,
        "the model returns 4x26, one value a frame, where the task 'classify' with 3 labels needs 4x3",
    ),
    "classify-classes": (
        "classify",
        lambda x: x.mean(2),
        5,
        "the model returns 4x5, where the task 'classify' with 3 labels needs 4x3: name all 5 labels in the order",
    ),
    "enhance-frames": (
        "enhance",
        lambda x: x,
        2,
        "the model returns 4x2x26, where the task 'enhance' needs waveforms of 4x2000",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_outputs(tmp_path: Path, case: str) -> None:
    task, shape, classes, said = UNFIT[case]
    manifest = of_labels(tmp_path, *"abc") if task == "classify" else corpus(tmp_path)
    with pytest.raises(InputError) as raised:
        recipe(task, net(classes, shape), manifest, noise=noises(tmp_path))
    assert said in str(raised.value)


def test_unfit_inputs(tmp_path: Path) -> None:
    """Features without a front end, another length than the model's only one, values that are no probabilities."""
    features = shrinkspeech.capture(
        nn.Sequential(nn.Conv1d(20, 8, 3), nn.ReLU(), nn.Conv1d(8, 1, 1)).eval(), (torch.randn(2, 20, 30),)
    )
    with pytest.raises(
        InputError, match="the model takes 2x20x30, which is no waveform: name its features with --features"
    ):
        recipe("vad", features, corpus(tmp_path))
    with pytest.raises(InputError, match="where --features logmel:24 gives Bx24xT"):
        recipe("vad", features, corpus(tmp_path), features="logmel:24")
    made = recipe("vad", features, corpus(tmp_path), features="logmel:20", crop=0.25)
    assert made.inputs(next(iter(made.train_batches())))[0].shape == (4, 20, 26)
    fixed = shrinkspeech.capture(
        nn.Sequential(nn.Linear(LENGTH, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (torch.randn(2, LENGTH),)
    )
    assert recipe("classify", fixed, of_labels(tmp_path, *"abc")).labels == ("a", "b", "c")
    with pytest.raises(InputError, match=r"the model takes 0\.25 s alone: give --crop 0\.25"):
        recipe("classify", fixed, tmp_path / "labels.csv", crop=0.5)
    with pytest.raises(InputError, match="the outputs are to be read as probability, but lie between"):
        recipe("vad", net(1, lambda x: 9 * x - 4), tmp_path / "clips.csv", TaskOptions(outputs_are="probability"))
    with pytest.raises(InputError, match="there is no task 'asr': --task is classify, distil, enhance, spoof, vad"):
        recipe("asr", fixed, tmp_path / "clips.csv")


class WithLengths(Net):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        mask = torch.arange(x.shape[1]) < lengths[:, None]
        return super().forward(x * mask).mean(2)


def test_lengths_are_given(tmp_path: Path) -> None:
    model = WithLengths(3, lambda x: x).eval()
    captured = shrinkspeech.capture(model, (torch.randn(2, LENGTH), torch.tensor([LENGTH, 900])))
    made = recipe("classify", captured, of_labels(tmp_path, *"abc"), crop=0.3)
    batch = next(iter(made.train_batches()))
    x, lengths = made.inputs(batch)
    assert x.shape == (4, 2_400)
    assert set(lengths.tolist()) <= {2_000, 2_080}
