"""Which of several outputs a task reads: the one that serves best, a refusal where two do, or the one that the user chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks.base import TaskOptions, TaskRecipe
from tests.audio_files import LENGTH, corpus, noises
from tests.task_cases import Net, net, of_labels, recipe

FRAMES = 26


class Fixed(nn.Module):
    """[B, 2000] → whatever ``shape`` makes of [B, 160] and [B, classes], for one length alone, as AASIST is written."""

    def __init__(self, shape: Callable[[Tensor, Tensor], Any], classes: int = 2) -> None:
        super().__init__()
        self.inside, self.embed, self.out = nn.Linear(LENGTH, 8), nn.Linear(8, 160), nn.Linear(160, classes)
        self.shape = shape

    def forward(self, x: Tensor) -> Any:
        embedding = self.embed(torch.relu(self.inside(x)))
        return self.shape(embedding, self.out(embedding))


def fixed(shape: Callable[[Tensor, Tensor], Any], classes: int = 2) -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Fixed(shape, classes).eval(), (torch.randn(2, LENGTH),))


def pair(embedding: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return embedding, logits


def read(made: TaskRecipe, captured: Captured) -> tuple[Any, Any, float]:
    """Outputs of the model on a batch, the batch, and the task's loss."""
    batch = next(iter(made.train_batches()))
    with torch.no_grad():
        outputs = captured.module()(*made.inputs(batch))
    assert made.loss is not None
    return outputs, batch, float(made.loss(outputs, batch))


# ------------------------------------------------------------------------------------------- the right one is read


@pytest.mark.parametrize("task", ["spoof", "classify"])
def test_logits_beside_an_embedding(tmp_path: Path, task: str) -> None:
    """(embedding [B, 160], logits [B, 2]) of one length: the classes are those of the logits."""
    captured = fixed(pair)
    made = recipe(task, captured, of_labels(tmp_path, "bonafide", "spoof"))
    (_, logits), batch, loss = read(made, captured)
    assert loss == pytest.approx(float(F.cross_entropy(logits, batch.target)), rel=1e-5)
    said = "output 1 (4x2) is read and not output 0 (4x160), for it has 2 values a clip: --model-output chooses another"
    assert said in made.notes


def test_logits_beside_an_embedding_for_vad_of_clips(tmp_path: Path) -> None:
    captured = fixed(pair)
    made = recipe("vad", captured, corpus(tmp_path))
    (_, logits), batch, loss = read(made, captured)
    speech = (batch.target.mean(1) >= 0.5).float()
    expected = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], speech)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert "one logit for each clip" in " ".join(made.notes)


BOTH: dict[str, Callable[[Tensor], Any]] = {
    "frames follow the length": lambda x: (x.mean(2), x.transpose(1, 2)),
    "the embedding does not": lambda x: (x.mean(2).repeat(1, 40), x.transpose(1, 2)),
    "frames before clips": lambda x: (x.transpose(1, 2), x.mean(2)),
}


@pytest.mark.parametrize("form", BOTH)
def test_frames_beside_clips_for_vad(tmp_path: Path, form: str) -> None:
    """(clip [B, 2], frames [B, T, 2]): voice activity is read from the frames, at their own times."""
    captured = net(2, BOTH[form])
    made = recipe("vad", captured, corpus(tmp_path))
    outputs, batch, loss = read(made, captured)
    frames = next(x for x in outputs if x.dim() == 3)
    labels = batch.target[:, torch.arange(FRAMES).mul(10).clamp(max=249)]
    expected = F.binary_cross_entropy_with_logits(frames[..., 1] - frames[..., 0], labels)
    assert loss == pytest.approx(float(expected), rel=1e-4)
    (note,) = (note for note in made.notes if "(4x26x2) is read and not output" in note)
    assert note.endswith("for it has 26 frames that follow the length of the input: --model-output chooses another")


def test_clips_beside_frames_for_classify(tmp_path: Path) -> None:
    captured = net(3, lambda x: (x.transpose(1, 2), x.amax(2)))
    made = recipe("classify", captured, of_labels(tmp_path, *"abc"))
    (_, clip), batch, loss = read(made, captured)
    assert loss == pytest.approx(float(F.cross_entropy(clip, batch.target)), rel=1e-5)


def test_a_value_for_each_class_goes_before_one_value(tmp_path: Path) -> None:
    captured = net(2, lambda x: (x.mean((1, 2)), x))
    made = recipe("classify", captured, of_labels(tmp_path, *"ab"))
    (_, frames), batch, loss = read(made, captured)
    assert loss == pytest.approx(float(F.cross_entropy(frames.mean(2), batch.target)), rel=1e-5)


def test_one_number_is_no_value_of_a_clip(tmp_path: Path) -> None:
    captured = net(1, lambda x: (x.mean(), x.mean(2)))
    assert "output 1 (4x1) is read" in recipe("vad", captured, corpus(tmp_path)).notes[-2]


def test_a_waveform_follows_the_length(tmp_path: Path) -> None:
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Conv1d(1, 8, 9, padding=4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.inside(x.unsqueeze(1))
            return y.mean(2).repeat(1, LENGTH // 8), y[:, 0]

    captured = shrinkspeech.capture(Wave().eval(), (torch.randn(2, LENGTH),))
    made = recipe("enhance", captured, corpus(tmp_path), noise=noises(tmp_path))
    assert (
        "output 1 (4x2000) is read and not output 0 (4x2000), for it has samples of the input's length"
        in made.notes[-2]
    )


def test_frames_of_one_length(tmp_path: Path) -> None:
    """Frames of two classes go before clips where no other length can be tried, and a note says that it was not."""
    captured = fixed(lambda embedding, logits: (logits, embedding.reshape(-1, 80, 2)))
    made = recipe("vad", captured, corpus(tmp_path))
    assert "the model gives 80 frames, 3.125 ms apart" in made.notes[-1]
    said = "output 1 (4x80x2) is taken for 80 frames, which cannot be tried: the model takes one length alone"
    assert said in made.notes


class Named(NamedTuple):
    logits: Tensor
    other: Tensor


FORMS: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "a loss first": (lambda x: (x.square().mean(), x.mean(2)), 1),
    "whole numbers first": (lambda x: (x.mean(2).argmax(1), x.mean(2)), 1),
    "a dictionary": (lambda x: {"score": x.mean((1, 2)), "logits": x.mean(2)}, 1),
    "a list in a tuple": (lambda x: ([x.mean((1, 2)), x.std((1, 2))], x.mean(2)), 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_counted_as_the_model_returns_them(tmp_path: Path, form: str) -> None:
    shape, number = FORMS[form]
    captured = net(3, shape)
    made = recipe("classify", captured, of_labels(tmp_path, *"abc"))
    outputs, batch, loss = read(made, captured)
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[-1]
    assert loss == pytest.approx(float(F.cross_entropy(logits, batch.target)), rel=1e-5)
    notes = " ".join(made.notes)
    assert (f"output {number}" in notes) == (form != "whole numbers first")  # the only one that is real-valued


def test_kinds_follow_their_outputs(tmp_path: Path) -> None:
    """Whole numbers beside it do not hide that an output is a probability."""
    captured = net(3, lambda x: (x.mean(2).argmax(1), torch.softmax(x.mean(2), 1)))
    made = recipe("classify", captured, of_labels(tmp_path, *"abc"))
    assert "read as probability" in " ".join(made.notes)


def test_another_length_than_half(tmp_path: Path) -> None:
    """A model that half of the length is too short for shows its frames at two thirds of it."""

    class Long(Net):
        def __init__(self) -> None:
            super().__init__(2, lambda x: (x.mean(2), x.transpose(1, 2)))
            self.inside = nn.Conv1d(1, 8, 1_100, 20)

    captured = shrinkspeech.capture(Long().eval(), (torch.randn(2, LENGTH),))
    made = recipe("vad", captured, corpus(tmp_path))
    assert "the model gives 46 frames, 2.5 ms apart" in made.notes[-1]
    assert not any("cannot be tried" in note for note in made.notes)


# -------------------------------------------------------------------------------------- refusals, and their way out


def refused(task: str, captured: Captured, manifest: Path, output: str | None = None, **data: Any) -> str:
    with pytest.raises(InputError) as caught:
        recipe(task, captured, manifest, TaskOptions(model_output=output), **data)
    return str(caught.value)


def test_a_tie_is_refused_and_the_user_chooses(tmp_path: Path) -> None:
    captured, manifest = net(3, lambda x: {"early": x.mean(2), "late": x.amax(2)}), of_labels(tmp_path, *"abc")
    assert refused("classify", captured, manifest) == (
        "the task 'classify' with 3 labels can be read from output 0 'early' (4x3) or from output 1 'late' (4x3): "
        "say which with --model-output"
    )
    losses = {}
    for output in ("early", "0", "late", "1"):
        made = recipe("classify", captured, manifest, TaskOptions(model_output=output))
        outputs, batch, losses[output] = read(made, captured)
        wanted = outputs["early" if output in ("early", "0") else "late"]
        assert losses[output] == pytest.approx(float(F.cross_entropy(wanted, batch.target)), rel=1e-5)
        assert "as --model-output says" in " ".join(made.notes)
    assert losses["early"] != losses["late"]


def test_two_outputs_of_frames_are_a_tie(tmp_path: Path) -> None:
    captured = net(1, lambda x: (x.squeeze(1), x.abs().squeeze(1)))
    assert "from output 0 (4x26) or from output 1 (4x26)" in refused("vad", captured, corpus(tmp_path))


def test_a_value_a_clip_beside_what_may_be_frames_is_a_tie(tmp_path: Path) -> None:
    """At one length alone nothing tells frames of one value from an embedding."""
    captured, manifest = fixed(pair, 1), corpus(tmp_path)
    assert "from output 0 (4x160) or from output 1 (4x1): say which" in refused("vad", captured, manifest)
    frames = recipe("vad", captured, manifest, TaskOptions(model_output="0"))
    assert "the model gives 160 frames" in frames.notes[-1]
    clips = recipe("vad", captured, manifest, TaskOptions(model_output="1"))
    assert "one logit for each clip" in clips.notes[-1]


def test_two_waveforms_are_a_tie(tmp_path: Path) -> None:
    """Speech and noise look the same to a task; so do waveforms at one length."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.out = nn.Conv1d(1, 8, 9, padding=4), nn.Conv1d(8, 2, 9, padding=4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            parts = self.out(torch.relu(self.inside(x.unsqueeze(1))))
            return parts.mean(2), parts[:, 0], parts[:, 1]

    captured = shrinkspeech.capture(Parts().eval(), (torch.randn(2, LENGTH),))
    manifest, noise = corpus(tmp_path), noises(tmp_path)
    assert "from output 1 (4x2000) or from output 2 (4x2000)" in refused("enhance", captured, manifest, noise=noise)
    losses = []
    for number in (1, 2):
        made = recipe("enhance", captured, manifest, TaskOptions(model_output=str(number)), noise=noise)
        outputs, batch, loss = read(made, captured)
        assert made.loss is not None
        losses.append(loss)
        outputs = tuple(x if i == number else torch.zeros_like(x) for i, x in enumerate(outputs))
        assert float(made.loss(outputs, batch)) == loss
    assert losses[0] != losses[1]


def test_an_embedding_alone_is_no_class_score(tmp_path: Path) -> None:
    captured = fixed(lambda embedding, logits: embedding)
    said = refused("spoof", captured, of_labels(tmp_path, "bonafide", "spoof"))
    assert said == "the model returns 4x160, where the task 'spoof' with 2 labels needs 4x2 or 4x1"


def test_choices_that_cannot_be(tmp_path: Path) -> None:
    captured, manifest = fixed(pair), of_labels(tmp_path, "bonafide", "spoof")
    said = "there is no output 2 for --model-output: the model returns output 0 (4x160) and output 1 (4x2)"
    assert refused("spoof", captured, manifest, "2") == said
    assert refused("spoof", captured, manifest, "0") == (
        "--model-output chooses output 0 (4x160), where the task 'spoof' with 2 labels needs 4x2 or 4x1"
    )
    assert "keeps all outputs near the original's" in refused("distil", captured, manifest, "0")
