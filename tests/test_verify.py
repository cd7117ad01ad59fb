"""Speaker verification: loss, pairs and error rates against values worked out by hand, on speakers of one pitch each."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks.base import TaskOptions, TaskRecipe
from shrinkspeech.tasks.verify import contrast, draw_pairs
from tests.audio_files import LENGTH, RATE, table, tone, write
from tests.task_cases import lost, measured, recipe


def pitch(speaker: int) -> float:
    return 300.0 + 170.0 * speaker


UNKNOWN = (2, 4, 6)


def clips(folder: Path, each: int = 4) -> Path:
    """Tones of one pitch for each of eight speakers, give or take 2 %, with a hum of any loudness; three speakers are there to
    validate on alone."""
    rng, rows = np.random.default_rng(0), []
    for i in range(8 * each):
        speaker = i % 8
        samples = tone(0.25, pitch(speaker) * rng.uniform(0.98, 1.02), level=rng.uniform(0.1, 0.3))
        samples += tone(0.25, 3_600, level=0.6 * rng.random())
        name = write(
            folder / "clips" / f"{i}.wav", samples + 0.02 * rng.standard_normal(LENGTH).astype(np.float32)
        ).name
        split = "val" if speaker in UNKNOWN else "train"
        rows.append({"path": f"clips/{name}", "speaker": f"s{speaker}", "label": "word", "split": split})
    return table(folder / "clips.csv", rows)


class Embedder(nn.Module):
    """[B, S] → embeddings [B, 6] of the mean level of filters, and whatever ``more`` makes of them."""

    def __init__(self, more: Any = None) -> None:
        super().__init__()
        self.inside, self.out, self.more = nn.Conv1d(1, 16, 32, 4), nn.Linear(16, 6), more

    def forward(self, x: Tensor) -> Any:
        embedding = self.out(torch.log1p(torch.relu(self.inside(x.unsqueeze(1))).mean(2)))
        return embedding if self.more is None else self.more(embedding)


def embedder(more: Any = None) -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Embedder(more).eval(), (torch.randn(2, LENGTH),))


def loudest(x: Tensor) -> Tensor:
    """An oracle: the unit vector of the frequency that is loudest, of those of the speakers: ``[B, 8]``."""
    spectrum = torch.fft.rfft(x).abs()
    places = [round(pitch(speaker) * LENGTH / RATE) for speaker in range(8)]
    bands = torch.stack([spectrum[:, place - 9 : place + 10].amax(1) for place in places], 1)
    return F.one_hot(bands.argmax(1), 8).float()


def test_an_oracle_makes_no_errors(tmp_path: Path) -> None:
    made = recipe("verify", embedder(), clips(tmp_path))
    assert measured(made, loudest) == {"eer": 0, "min_dcf": 0}
    assert made.labels == ()
    assert "5 speakers to train on and 3 to validate on, by the column 'speaker'" in made.notes
    assert "validated on 18 pairs of one speaker and 18 of two, drawn with seed 0 among 12 clips" in made.notes
    assert measured(made, lambda x: torch.ones(len(x), 3))["eer"] == 50


def judged(folder: Path, pairs: list[str], angles: list[float]) -> dict[str, float]:
    """Error rates on pairs of five clips, 0 to 4, whose embeddings lie at some angles in degrees."""
    rows = [{"path": f"clips/{i}.wav", "speaker": f"s{i % 8}", "split": "train"} for i in range(16)]
    rows += [{"path": f"clips/{16 + i}.wav", "speaker": "ab"[i > 2], "split": "val"} for i in range(5)]
    clips(folder)
    trials = folder / "trials.txt"
    lines = [[pair[0], *(f"clips/{16 + int(clip)}.wav" for clip in pair[1:].split())] for pair in pairs]
    trials.write_text("\n".join(map(" ".join, lines)))
    made = recipe("verify", embedder(), table(folder / "five.csv", rows), TaskOptions(own={"trials": str(trials)}))
    same = sum(pair[0] == "1" for pair in pairs)
    assert f"validated on {same} pairs of one speaker and {len(pairs) - same} of two, those of {trials}" in made.notes
    radians = torch.tensor(angles).deg2rad()
    answers = iter((3 * torch.stack([radians.cos(), radians.sin()], 1)).split(4))
    return measured(made, lambda x: next(answers))


def test_error_rates_by_hand(tmp_path: Path) -> None:
    """The score of a pair is the cosine of the angle between its clips."""
    pairs = ["1 0 1", "1 0 2", "1 1 2", "1 3 4", "0 0 3", "0 1 3", "0 2 4", "0 0 4"]
    # of one speaker 60°, 90°, 30°, 70°, of two 30°, 30°, 10°, 100°: three of four misses at three of four false alarms
    assert judged(tmp_path, pairs, [0, 60, 90, 30, 100]) == pytest.approx({"eer": 75, "min_dcf": 1})
    # of one speaker 0°, 30°, 30°, 40°, of two 60°, 60°, 70°, 100°
    assert judged(tmp_path, pairs, [0, 0, 30, 60, 100]) == pytest.approx({"eer": 0, "min_dcf": 0})


def test_the_detection_cost_by_hand(tmp_path: Path) -> None:
    """Hits at 0° and three times at 40°, false alarms at 20° and 39 times at 100°: one of 40 false alarms, no miss."""
    found = judged(tmp_path, ["1 0 1", *["1 0 2"] * 3, "0 0 3", *["0 0 4"] * 39], [0, 0, 40, 20, 100])
    assert found == pytest.approx({"eer": 2.5, "min_dcf": 0.95 * (1 / 40) / 0.05})


def test_the_loss_by_hand(tmp_path: Path) -> None:
    """Two clips of one speaker at 0° and 90°, one of another at 180°, which has no other and is told from alone."""
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    first = (
        math.log(math.exp(0) + math.exp(-1 / 0.05)) - 0
    )  # finds the second (cosine 0) among it and the third (cosine −1)
    second = math.log(math.exp(0) + math.exp(0)) - 0
    speakers = torch.tensor([4, 4, 1])
    assert float(contrast(embeddings, speakers)) == pytest.approx((first + second) / 2, rel=1e-5)
    made = recipe("verify", embedder(), clips(tmp_path))
    batch = next(iter(made.train_batches()))
    scaled = lost(made, 5 * embeddings, batch._replace(target=speakers))
    assert scaled == pytest.approx((first + second) / 2, rel=1e-5)
    alone = embeddings.clone().requires_grad_()
    contrast(alone, torch.arange(3)).backward()
    assert alone.grad is not None
    assert not alone.grad.any()  # no pair in the batch: nothing to learn, and nothing that is no number


def test_batches_hold_pairs(tmp_path: Path) -> None:
    made = recipe("verify", embedder(), clips(tmp_path))
    stream = iter(made.train_batches())
    for _ in range(6):
        assert all(count % 2 == 0 for count in Counter(next(stream).target.tolist()).values())


def test_pairs_are_drawn_evenly() -> None:
    """As many of one speaker as of two, none twice, the same for a seed, and no speaker for the number of its clips alone."""
    speakers = [*"a" * 40, *"b" * 4, *"c" * 4]
    rows = list(range(100, 148))
    pairs, same = draw_pairs(rows, speakers, 12, 0)
    assert (same.sum(), (~same).sum()) == (12, 12)
    assert len({tuple(pair) for pair in pairs.tolist()}) == 24
    named = [(speakers[one - 100], speakers[other - 100]) for one, other in pairs.tolist()]
    assert [one == other for one, other in named] == same.tolist()
    assert np.array_equal(draw_pairs(rows, speakers, 12, 0)[0], pairs)
    assert not np.array_equal(draw_pairs(rows, speakers, 12, 1)[0], pairs)
    speakers = [*"a" * 40, *"b" * 2]
    firsts = [int(draw_pairs(range(42), speakers, 1, seed)[0][0, 0]) for seed in range(200)]
    assert 80 < sum(speakers[row] == "b" for row in firsts) < 120  # one of its 781 pairs is of b
    few, same = draw_pairs(range(3), ["a", "a", "b"], 100, 0)
    assert (len(few), same.tolist()) == (2, [True, False])
    for speakers in ([*"ab"], [*"aa"]):
        with pytest.raises(InputError, match="need two clips of one speaker to validate on, and one of another"):
            draw_pairs(range(2), speakers, 100, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs pairs of one speaker (1) and pairs of two (0)"),
        ("1 clips/2.wav clips/10.wav\n", "needs pairs of one speaker (1) and pairs of two (0)"),
        ("1 clips/2.wav\n", "line 1: write '1 path path' for one speaker and '0 path path' for two"),
        ("\ntarget clips/2.wav clips/10.wav\n", "line 2: write '1 path path' for one speaker"),
        ("1 clips/2.wav clips/0.wav\n", "line 1: no row of the 12 that are validated on have the path clips/0.wav"),
        (None, "there is no file"),
    ],
)
def test_trials_that_cannot_be_read(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "trials.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError) as caught:
        recipe("verify", embedder(), clips(tmp_path), TaskOptions(own={"trials": str(file)}))
    assert said in str(caught.value)


def test_trials_of_a_clip_with_two_rows(tmp_path: Path) -> None:
    manifest = clips(tmp_path)
    manifest.write_text(manifest.read_text() + "clips/2.wav,s2,word,val\n")
    (tmp_path / "trials.txt").write_text("1 clips/2.wav clips/10.wav\n0 clips/2.wav clips/4.wav\n")
    with pytest.raises(InputError, match=r"line 1: 2 rows of the 13 that are validated on have the path clips/2\.wav"):
        recipe("verify", embedder(), manifest, TaskOptions(own={"trials": str(tmp_path / "trials.txt")}))


# --------------------------------------------------------------------------------------------------- which output


def test_the_embedding_is_told_from_class_scores(tmp_path: Path) -> None:
    """Scores of as many classes as there are speakers to train on, probabilities and frames are not read."""
    captured = embedder(lambda x: (x[:, :5], torch.softmax(x, 1), x))
    made = recipe("verify", captured, clips(tmp_path))
    said = "output 2 (4x6) is read and not output 0 (4x5) and output 1 (4x6), for it has the shape of an embedding"
    assert any(note.startswith(said) for note in made.notes)
    batch = next(iter(made.train_batches()))
    outputs = captured.copy()(batch.x)
    assert lost(made, outputs, batch) == pytest.approx(
        float(contrast(F.normalize(outputs[2], dim=1), batch.target).detach())
    )


def test_embeddings_that_cannot_be_told(tmp_path: Path) -> None:
    manifest = clips(tmp_path)
    with pytest.raises(InputError, match=r"read from output 0 \(4x6\) or from output 1 \(4x4\): say which"):
        recipe("verify", embedder(lambda x: (x, x[:, :4])), manifest)
    assert recipe("verify", embedder(lambda x: (x, x[:, :4])), manifest, TaskOptions(model_output="1")).notes
    layers = nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 8, 9), nn.Conv1d(8, 1, 9), nn.Flatten()
    frames = shrinkspeech.capture(nn.Sequential(*layers).eval(), (torch.randn(2, LENGTH),))
    with pytest.raises(
        InputError, match=r"returns 4x1984, one value a frame, where the task 'verify' needs embeddings"
    ):
        recipe("verify", frames, manifest)


# ------------------------------------------------------------------------------------------------------------ fits


def test_no_loss_on_speakers_where_batches_cannot_have_one(tmp_path: Path) -> None:
    """One clip of each speaker, or batches of two: the fit keeps to the original's embeddings, and says so."""

    def notes(made: TaskRecipe) -> str:
        assert made.loss is None
        return " ".join(made.notes)

    manifest = clips(tmp_path)
    rows = [
        line for line in manifest.read_text().splitlines() if "train" not in line or int(line[6:].split(".")[0]) < 8
    ]
    (tmp_path / "one.csv").write_text("\n".join(rows))
    assert "are kept near the original's alone" in notes(recipe("verify", embedder(), tmp_path / "one.csv"))

    class OfTwo(Embedder):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x.reshape(2, LENGTH))

    of_two = shrinkspeech.capture(OfTwo().eval(), (torch.randn(2, LENGTH),))
    assert "are kept near the original's alone" in notes(recipe("verify", of_two, manifest))
    made = recipe("verify", embedder(), manifest)
    assert made.loss is not None
    assert "drawn together and apart by speaker" in " ".join(made.notes)


class OfBands(nn.Module):
    """Log-mel energies [B, 20, T] → embeddings [B, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv1d(20, 16, 1), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.inside(x).mean(2)))


def test_unknown_speakers_are_told_apart_after_a_fit(tmp_path: Path) -> None:
    """A model that has learnt nothing hears the hum; from five speakers it learns to tell three others apart."""
    torch.manual_seed(0)
    captured = shrinkspeech.capture(OfBands().eval(), (torch.randn(2, 20, 26),))
    made = recipe("verify", captured, clips(tmp_path, each=8), features="logmel:20", crop=0.25)
    untaught = Settings(distil=0.0)
    fitted = shrinkspeech.fit(captured, made, "50%", steps=60, seconds=0.25, learning_rate=5e-3, settings=untaught)
    report = fitted.report
    assert report.flops <= report.target_flops
    assert report.metrics_before["eer"] > 5
    assert report.metrics_after["eer"] < 2
