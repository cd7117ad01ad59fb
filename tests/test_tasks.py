"""Tasks: losses and metrics against values worked out by hand, and how outputs are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import shrinkspeech
from shrinkspeech.data.items import TRACK_RATE, Batch
from shrinkspeech.errors import InputError
from shrinkspeech.tasks.base import TaskOptions
from shrinkspeech.tasks.enhance import extra_metrics
from shrinkspeech.tasks.reading import stride
from tests.audio_files import LENGTH, RATE, corpus, noises, table, write
from tests.task_cases import Net, lost, measured, net, of_labels, recipe

# ------------------------------------------------------------------------------------------------------------ vad

FORMS: dict[str, tuple[int, Callable[[Tensor], Any]]] = {
    "BT": (1, lambda x: x.squeeze(1)),
    "BT1": (1, lambda x: x.transpose(1, 2)),
    "B1T": (1, lambda x: x),
    "BT2": (2, lambda x: x.transpose(1, 2)),
    "B2T": (2, lambda x: x),
    "second": (1, lambda x: (x.mean(2).expand(-1, 7), x.squeeze(1))),
    "sigmoid": (1, lambda x: torch.sigmoid(x).squeeze(1)),
    "softmax": (2, lambda x: torch.softmax(x, 1).transpose(1, 2)),
    "log_softmax": (2, lambda x: torch.log_softmax(x, 1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_vad_reads_any_form(tmp_path: Path, form: str) -> None:
    """The loss is the binary cross-entropy of the logits, whatever the model makes of them."""
    captured = net(*FORMS[form])
    made = recipe("vad", captured, corpus(tmp_path), noise=noises(tmp_path))
    batch = next(iter(made.train_batches()))
    raw = net(FORMS[form][0]).module()(batch.x)
    logits = raw[:, 0] if raw.shape[1] == 1 else raw[:, 1] - raw[:, 0]
    labels = batch.target[:, torch.arange(26).mul(10).clamp(max=249)]  # frame i at i × 10 ms
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    assert lost(made, captured.module()(*made.inputs(batch)), batch) == pytest.approx(
        float(expected.detach()), rel=1e-4
    )
    kind = {"softmax": "probability", "sigmoid": "probability", "log_softmax": "log-probability"}.get(form, "logit")
    assert f"26 frames, 10 ms apart, of speech as {kind}" in " ".join(made.notes)


def test_vad_metrics(tmp_path: Path) -> None:
    """An oracle has no errors, its opposite nothing else; ranges of ratios are told apart."""
    made = recipe("vad", net(*FORMS["BT"]), corpus(tmp_path, 24), noise=noises(tmp_path))
    batches = list(made.source.val())  # type: ignore[union-attr]
    labels = {float(b.x.sum()): b.target[:, torch.arange(26).mul(10).clamp(max=249)] for b in batches}
    found = measured(made, lambda x: labels[float(x.sum())])
    assert {key: found[key] for key in ("eer", "auc", "min_dcf")} == {"eer": 0, "auc": 1, "min_dcf": 0}
    assert [key for key in found if "dB" in key]
    assert all(found[key] == 0 for key in found if "dB" in key)
    found = measured(made, lambda x: -labels[float(x.sum())])
    assert (found["eer"], found["auc"], found["min_dcf"]) == (100, 0, 0.25)


def test_vad_of_clips(tmp_path: Path) -> None:
    """One value a clip: speech if at least half of it is."""
    made = recipe("vad", net(2, lambda x: x.mean(2)), corpus(tmp_path))
    assert "one logit for each clip" in " ".join(made.notes)
    logits = torch.tensor([[0.0, 2.0], [0.0, -1.0]])
    tracks = torch.zeros(2, TRACK_RATE // 4)
    tracks[0, :125], tracks[1, :124] = 1, 1
    batch = Batch(torch.zeros(2, LENGTH), tracks, torch.tensor([1, 1]), torch.zeros(2))
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert lost(made, logits, batch) == pytest.approx(expected)


def test_unpadded_frames(tmp_path: Path) -> None:
    """Frames of a model without padding lie half a window inside."""

    class Unpadded(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(F.conv1d(x.unsqueeze(1), self.inside.weight, stride=80))).squeeze(1)

    captured = shrinkspeech.capture(Unpadded(1, lambda x: x).eval(), (torch.randn(2, LENGTH),))
    made = recipe("vad", captured, corpus(tmp_path))
    reading = made.loss.__self__.reading  # type: ignore[union-attr]
    assert reading.hop == pytest.approx(0.01)
    assert reading.ticks(25).tolist() == [10 * i + 5 for i in range(25)]  # a window of 80 samples is 10 ms


def test_stride() -> None:
    assert stride(48_000, 301, 151) == 160
    assert stride(2_000, 25, 12) == 80  # 76.9 by division
    assert stride(101, 50, 25) == 2
    assert stride(100, 200, 100) == 0.5


# ------------------------------------------------------------------------------------------- classify and spoof


def test_classify_by_hand(tmp_path: Path) -> None:
    made = recipe("classify", net(3, lambda x: x.mean(2)), of_labels(tmp_path, "b", "a", "c"))
    assert made.labels == ("a", "b", "c")
    assert made.facts()["labels"] == ["a", "b", "c"]
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    batch = Batch(torch.zeros(2, LENGTH), torch.tensor([0, 1]), torch.tensor([1, 1]), torch.zeros(2))
    expected = (math.log(math.e**2 + 2) - 2 + math.log(2 + math.e)) / 2
    assert lost(made, logits, batch) == pytest.approx(expected)
    answers = iter([torch.eye(3)[torch.tensor([1, 0, 0])]])  # b, a, c told as b, a, a
    found = measured(made, lambda x: next(answers))
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert found["macro_f1"] == pytest.approx(100 * (2 / 3 + 1 + 0) / 3)
    assert "top3" not in found


def test_classify_top_k(tmp_path: Path) -> None:
    made = recipe("classify", net(4, lambda x: x.mean(2)), of_labels(tmp_path, *"abcd"), TaskOptions(top=2))
    answers = iter([torch.tensor([[4.0, 3, 2, 1]] * 4)])
    assert measured(made, lambda x: next(answers))["top2"] == 50


@pytest.mark.parametrize("shape", [lambda x: x, lambda x: x.transpose(1, 2)])
def test_classify_averages_frames(tmp_path: Path, shape: Callable[[Tensor], Tensor]) -> None:
    captured = net(3, shape)
    made = recipe("classify", captured, of_labels(tmp_path, *"abc"))
    assert "averaged over 26 frames" in " ".join(made.notes)
    batch = next(iter(made.train_batches()))
    expected = F.cross_entropy(net(3).module()(batch.x).mean(2), batch.target)
    assert lost(made, captured.module()(batch.x), batch) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_spoof_by_hand(tmp_path: Path) -> None:
    """Classes weigh the same whatever their number; one output is the score of bona fide speech, or of the second label
    where the labels are given."""
    manifest = of_labels(tmp_path, "spoof", "bonafide")
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*rows, "00.wav,spoof,train", "01.wav,spoof,train"]))  # four spoofs, two bona fide
    made = recipe("spoof", net(1, lambda x: x.mean((1, 2))), manifest)
    assert made.labels == ("bonafide", "spoof")
    assert "high for 'bonafide'" in " ".join(made.notes)
    assert "min_dcf stands for the tandem cost" in " ".join(made.notes)
    batch = Batch(torch.zeros(3, LENGTH), torch.tensor([0, 1, 1]), torch.tensor([1, 1, 1]), torch.zeros(3))
    scores = torch.tensor([-1.0, 2.0, 0.5])
    losses = [math.log1p(math.exp(-1)), math.log1p(math.exp(-2)), math.log1p(math.exp(-0.5))]
    weights = [6 / (2 * 2), 6 / (2 * 4), 6 / (2 * 4)]
    expected = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert lost(made, -scores, batch) == pytest.approx(expected)
    found = measured(made, lambda x: torch.tensor([-1.0, 1.0]))  # spoof, bona fide
    assert found == {"eer": 0, "eer_low": 0, "eer_high": 0, "min_dcf": 0}
    plain = recipe("spoof", net(1, lambda x: x.mean((1, 2))), manifest, TaskOptions(balanced=False))
    assert lost(plain, -scores, batch) == pytest.approx(sum(losses) / 3)
    given = recipe("spoof", net(1, lambda x: x.mean((1, 2))), manifest, labels=("bonafide", "spoof"))
    assert "high for 'spoof'" in " ".join(given.notes)
    assert lost(given, scores, batch) == pytest.approx(expected)


def test_spoof_costs_by_hand(tmp_path: Path) -> None:
    """Bona fide 5, 4, 3, 0 and spoofs 2, 1: without a false alarm one of four is missed, else every spoof passes."""
    rows = of_labels(tmp_path, "spoof", "bonafide").read_text().splitlines()
    more = ["00.wav,spoof,val", *["10.wav,bonafide,val"] * 3]
    manifest = tmp_path / "more.csv"
    manifest.write_text("\n".join([*rows, *more]))
    asv = tmp_path / "asv.txt"
    targets, others = [f"x target {x}" for x in (2, 3, 4, 5)], [f"x nontarget {x}" for x in (-1, 0, 1, 2.5)]
    asv.write_text("\n".join([*targets, *others, *[f"x spoof {x}" for x in (2.5, 4, 2, 1, 0)]]))
    scores = torch.tensor([2.0, 5.0, 1.0, 4.0, 3.0, 0.0])  # spoof, bona fide, spoof, bona fide, …
    found = {}
    for option in (None, asv):
        answers = iter(scores.split(4))
        made = recipe("spoof", net(1, lambda x: x.mean((1, 2))), manifest, TaskOptions(asv_scores=option))
        found.update(measured(made, lambda x, answers=answers: next(answers)))
    assert found["eer"] == pytest.approx(25)
    assert found["min_dcf"] == pytest.approx(0.95 * 0.25 / (10 * 0.05))
    # the verifier's threshold is 2.5: it refuses the target 2 and three of five spoofs, and takes 2.5 for a target
    target = 0.95 * 0.99 * (1 - 0.25) - 0.95 * 0.01 * 10 * 0.25
    spoof = 10 * 0.05 * (1 - 3 / 5)
    assert found["min_tdcf"] == pytest.approx(target * 0.25 / min(target, spoof))


def test_spoof_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the task 'spoof' needs two labels, not 3"):
        recipe("spoof", net(2, lambda x: x.mean(2)), of_labels(tmp_path, "bonafide", "tts", "vc"))
    with pytest.raises(InputError, match="cannot tell which of the labels fake and true is bona fide"):
        recipe("spoof", net(2, lambda x: x.mean(2)), of_labels(tmp_path, "fake", "true"))


# ------------------------------------------------------------------------------------------- enhance and distil


def test_enhance_by_hand(tmp_path: Path) -> None:
    """SI-SDR is ten times the logarithm of projection over rest; the identity gains nothing."""
    captured = shrinkspeech.capture(Waves().eval(), (torch.randn(2, 1, LENGTH),))
    made = recipe("enhance", captured, corpus(tmp_path), noise=noises(tmp_path), snr=(5.0, 5.0))
    batch = next(iter(made.train_batches()))
    assert made.inputs(batch)[0].shape == (4, 1, LENGTH)
    output, clean = batch.x[:, :-8].double(), batch.target[:, :-8].double()
    target = (output * clean).sum(1, keepdim=True) / clean.square().sum(1, keepdim=True) * clean
    expected = -10 * torch.log10(target.square().sum(1) / (output - target).square().sum(1)).mean()
    assert lost(made, batch.x[:, None, :-8], batch) == pytest.approx(float(expected.detach()), rel=1e-4)
    found = measured(made, lambda x: x)
    assert found["si_sdr_gain"] == 0
    assert math.isfinite(found["si_sdr"])


class Waves(nn.Module):
    """[B, 1, S] → [B, 1, S]"""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv1d(1, 8, 9, padding=4), nn.Conv1d(8, 1, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.inside(x)))


def test_enhance_with_clean_files(tmp_path: Path) -> None:
    """Both files are cut at the same place."""
    rows = []
    for i, split in enumerate(("train", "train", "val")):
        clean = np.random.default_rng(i).standard_normal(6_000).astype(np.float32) * 0.1
        write(tmp_path / f"clean{i}.wav", clean)
        rows.append(
            {"path": write(tmp_path / f"noisy{i}.wav", 2 * clean).name, "clean": f"clean{i}.wav", "split": split}
        )
    captured = shrinkspeech.capture(Waves().eval(), (torch.randn(2, 1, LENGTH),))
    made = recipe("enhance", captured, table(tmp_path / "pairs.csv", rows))
    for batch in [next(iter(made.train_batches())), *made.source.val()]:  # type: ignore[union-attr]
        assert torch.allclose(batch.x, 2 * batch.target)


def test_intelligibility_and_quality() -> None:
    """STOI of 1 and the highest PESQ for speech itself; what they cannot judge is left out."""
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    speech = torch.from_numpy(np.random.default_rng(0).standard_normal((3, RATE)) * np.hanning(RATE)).float()
    found = extra_metrics(speech, speech, RATE)
    torch.testing.assert_close(found["stoi"].float(), torch.ones(3), atol=1e-3, rtol=0)
    assert found["pesq"].shape == (3,)
    assert found["pesq"].min() > 4.2
    assert extra_metrics(0.5 * speech + 0.1 * speech.roll(1, 0), speech, RATE)["pesq"].max() < found["pesq"].min()
    speech[1] = 0
    for name in ("stoi", "pesq"):
        assert extra_metrics(speech, speech, RATE)[name].shape == (2,)
        assert len(extra_metrics(speech[:, :1_000], speech[:, :1_000], RATE)[name]) == 0


def test_distil(tmp_path: Path) -> None:
    captured = shrinkspeech.capture(Waves().eval(), (torch.randn(2, 1, LENGTH),))
    made = recipe("distil", captured, corpus(tmp_path))
    assert made.loss is None
    assert measured(made, captured.module()) == {"distance": 0}
    assert measured(made, lambda x: 0 * x)["distance"] > 0.5
