"""Which rows of a batch are whose, in one process that stands for each of several."""

from __future__ import annotations

import os
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech import processes
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.source import open_source
from shrinkspeech.errors import InputError, ProcessError
from shrinkspeech.fitting.accelerated import accelerator_of
from shrinkspeech.fitting.blame import LOSS_ITSELF, worst
from shrinkspeech.fitting.interrupt import Interrupt, Stopped
from shrinkspeech.fitting.processes.in_step import InStep
from shrinkspeech.fitting.processes.sharing import Shared, Sharing
from shrinkspeech.fitting.processes.split import Share, Split
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.surgery.fold import Sums
from tests.command import write_noise


@pytest.mark.parametrize("rows", [1, 5, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_rows_are_cut_without_rest_and_alike(rows: int, count: int) -> None:
    x = torch.arange(2 * rows)
    shares = [Share.of(rows, Team(rank, count)) for rank in range(count)]
    assert torch.equal(torch.cat([share.rows(x) for share in shares]), x)
    assert max(shares[0].extents) - min(shares[0].extents) <= 1
    assert all(share.whole == rows for share in shares)


@pytest.mark.parametrize("kind", ["none", "speaker"])
def test_processes_together_read_each_clip_as_often_as_one(kind: str, tmp_path: Path) -> None:
    lines = ["path,speaker"]
    for number in range(9):
        write_noise(tmp_path / f"{number}.wav")
        lines.append(f"{number}.wav,{number % 3}")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    options = DataOptions(tmp_path / "clips.csv", batch_size=5, workers=0, val_fraction=0.34)
    source = open_source(options, kind, 800)
    wanted = list(islice(source.train(), 6))
    for count in (2, 3):
        each = [list(islice(source.train_rows(rank, count), 6)) for rank in range(count)]
        for batch, parts in zip(wanted, zip(*each, strict=True), strict=True):
            assert [size for _, size in parts] == [5] * count
            for whole, *some in zip(batch, *(part for part, _ in parts), strict=True):
                torch.testing.assert_close(torch.cat(some), whole, rtol=0, atol=0, equal_nan=True)


class Pair(nn.Module):
    """Two inputs, the second of which holds no items; outputs with items first, items second, and none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.layer(x) * y
        return z, z.transpose(0, 1), self.layer.weight.sum() + y


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Several(nn.Module):
    """Takes no item alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.ones(x.shape[0] // 2 * 2).sum().sign()


def test_a_trial_shows_where_rows_are() -> None:
    found = shrinkspeech.capture(Pair().eval(), (torch.randn(2, 3), torch.randn(4)))
    split = Split.of(found)
    assert list(split.places) == [(0, 0)]
    assert split.outputs == [0, 1, None]
    assert split.least == 1
    share = split.share(5, Team(1, 2))
    x, y = torch.randn(5, 3), torch.randn(4)
    own, same = split.own((x, y), share)
    assert torch.equal(own, x[2:])
    assert same is y
    assert split.size((x, y)) == 5
    with pytest.raises(ProcessError, match="a batch of 3 items is too small for 4 processes"):
        split.share(3, Team(0, 4))


def test_a_model_whose_items_know_of_each_other_is_refused() -> None:
    found = shrinkspeech.capture(Mixing(), (torch.randn(2, 3),))
    with pytest.raises(ProcessError, match="output 0 of the model for a batch is not made of those for its items"):
        Split.of(found)


def test_a_model_that_takes_no_item_alone_is_split_by_twos() -> None:
    split = Split.of(shrinkspeech.capture(Several(), (torch.randn(2, 3),)))
    assert split.least == 2
    with pytest.raises(ProcessError, match="too small for 2 processes, each of which needs 2"):
        split.share(3, Team(0, 2))


def test_a_model_of_one_batch_size_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(2, 3).sum(1)

    found = shrinkspeech.capture(Fixed(), (torch.randn(2, 3),))
    with pytest.raises(ProcessError, match="takes batches of 2 items alone"):
        Shared(found, Team(0, 2))
    assert type(Sharing.of(found, Team())) is Sharing


# -- sums ---------------------------------------------------------------------------------------------------------


class Heard(Team):
    """One of two processes; what the others have is given."""

    def all(self, value: Any) -> list[Any]:
        return [value, {"a": torch.tensor([10.0]), "c": torch.tensor([5.0])}]


def shared(rank: int, rows: int, count: int = 2) -> Shared:
    """Without a model."""
    found, team = Shared.__new__(Shared), Heard(rank, count)
    found.team, found.mode = team, InStep(team, {})
    found.mode.share = Share.of(rows, team)
    return found


@pytest.mark.parametrize("each", [1, 3, 7])
@pytest.mark.parametrize("most", [2, 5, 100])
def test_processes_take_the_same_feature_vectors_as_one(each: int, most: int) -> None:
    rows = torch.arange(5 * each)
    wanted = Sums().spaced(rows, most)
    parts = [shared(rank, 5, 3) for rank in range(3)]
    assert torch.equal(torch.cat([part.spaced(part.share.rows(rows), most) for part in parts]), wanted)


def test_sums_by_name_are_added_where_both_have_them() -> None:
    found = shared(0, 5).merged({"a": torch.tensor([1.0]), "b": torch.tensor([2.0])})
    assert {name: float(x) for name, x in found.items()} == {"a": 11.0, "b": 2.0, "c": 5.0}


# -- launchers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what a launcher says."""
    for name in (*processes.RANK, *processes.SIZE, *processes.LOCAL, *processes.HERE, "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return lambda **said: [monkeypatch.setenv(name, value) for name, value in said.items()]


def test_launchers_say_who_a_process_is(launched: Any) -> None:
    facts = lambda: (processes.rank(), processes.size(), processes.rank_here(), processes.on_this_machine())  # noqa: E731
    assert facts() == (0, 1, 0, 1)
    launched(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
    assert facts() == (5, 8, 1, 4)
    launched(WORLD_SIZE="1")
    assert facts() == (0, 1, 0, 1)


def test_loaders_share_the_cores_of_a_machine(launched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    assert DataOptions(Path()).processes == 4
    launched(RANK="0", WORLD_SIZE="4", LOCAL_WORLD_SIZE="4")
    assert DataOptions(Path()).processes == 1


def test_accelerate_that_starts_one_of_several_is_noticed(launched: Any) -> None:
    from shrinkspeech_cli.several import refuse_alone

    launched(ACCELERATE_MIXED_PRECISION="no")
    refuse_alone()
    launched(MASTER_PORT="29500")
    with pytest.raises(InputError, match=r"asked for several processes and started one.*--multi_gpu"):
        refuse_alone()
    launched(RANK="0", WORLD_SIZE="2")
    refuse_alone()


def test_other_precisions_are_refused_and_one_may_follow_another() -> None:
    with pytest.raises(InputError, match="there is no mixed precision 'fp16': it is no or bf16"):
        accelerator_of("fp16", Team())
    assert [accelerator_of(kind, Team()).mixed_precision for kind in ("bf16", None, "bf16", "no")] == [
        *("bf16", "no", "bf16", "no")
    ]


def test_of_several_sentences_the_one_that_tells_most_is_taken() -> None:
    assert worst(["", LOSS_ITSELF]) == LOSS_ITSELF
    assert worst([LOSS_ITSELF, "", "the log"]) == "the log"


def test_in_several_processes_signals_wait_however_often_they_come() -> None:
    """``torchrun`` sends SIGTERM twice; one process that stopped alone would leave the others in the middle of a step."""
    interrupt = Interrupt(patient=True)
    with interrupt.caught():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.received == signal.SIGTERM
    hasty = Interrupt()
    with pytest.raises(Stopped), hasty.caught():
        os.kill(os.getpid(), signal.SIGTERM)
