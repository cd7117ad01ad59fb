"""Peak memory of activations: worked out by hand on small graphs, exact on sliced ones, and met by fits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import shrinkspeech
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.memory import Memory, buffers
from shrinkspeech.errors import BudgetError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Groups
from shrinkspeech.surgery.depth import allow_empty, removable
from shrinkspeech.surgery.slice import slice as slice_graph
from tests.command import FIT, run, tiny_folder
from tests.detector import RECIPE, SECONDS, Detector


def labelled(model: nn.Module, *inputs: Tensor) -> tuple[Captured, Groups]:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(model.eval(), inputs)
    return captured, shrinkspeech.label(captured)


class Chain(nn.Module):
    """``[B, 4, T]`` → ``[B, 2, T]``: a convolution to 6 channels, ReLU, another to 2."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 6, 3, padding=1), nn.Conv1d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


class Tokens(nn.Module):
    """Whole numbers ``[B, T]`` → ``[B, 6, T]``: a table, and beside it two linear layers of 20 units."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.up, self.down = nn.Embedding(7, 6), nn.Linear(6, 20), nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        e = self.table(x)
        return e.transpose(1, 2) + self.down(self.up(e).relu()).transpose(1, 2)


def test_by_hand() -> None:
    """One item of 10 frames, float32: 160 bytes of input, 40 for each channel of ``a`` and again after ReLU, 80 of output.

    At the first convolution 160 + 40 a are alive, at ReLU 40 a + 40 a, at the second 40 a + 80, which is always less than
    at the first.
    """
    captured, groups = labelled(Chain(), torch.randn(2, 4, 10))
    memory = Memory(captured, groups)
    assert [part.terms for part in memory.cost().parts] == [{(): 160.0, ("a",): 40.0}, {("a",): 80.0}]
    assert memory.original == 480
    for width, peak in ((6, 480), (5, 400), (4, 320), (3, 280), (1, 200)):
        assert memory.cost().at({"a": width}) == peak
        assert memory.measure(shrinkspeech.slice(captured, groups, {"a": width})) == peak


def test_views_number_types_and_what_is_read_again_by_hand() -> None:
    """10 tokens of 8 bytes; the table's 240 bytes stay alive until they are added at the end, and their view is free.

    With u units of 40 bytes: the table 80 + 240, ``up`` 240 + 40 u, ReLU 240 + 80 u, ``down`` 240 + 40 u + 240, the sum
    240 + 240 + 240.
    """
    captured, groups = labelled(Tokens(), torch.randint(0, 7, (2, 10)))
    memory = Memory(captured, groups)
    assert [(buffer.bytes, buffer.node.split("_")[0]) for buffer in buffers(captured)] == [
        (80, "x"),
        (240, "embedding"),
        (800, "linear"),
        (800, "relu"),
        (240, "linear"),
        (240, "add"),
    ]
    assert sorted(part.terms.get((), 0.0) for part in memory.cost().parts) == [240, 480, 720]
    for width, peak in ((20, 1840), (10, 1040), (7, 800), (6, 720), (5, 720), (1, 720)):
        assert memory.cost().at({"up": width}) == peak
        assert memory.measure(shrinkspeech.slice(captured, groups, {"up": width})) == peak


def test_weights_are_no_activations() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.gain = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.ones(3, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight * self.gain)

    captured, groups = labelled(Scaled(), torch.randn(2, 4))
    assert Memory(captured, groups).original == 4 * (4 + 3)


def test_a_batch_that_is_fixed_counts_whole() -> None:
    class Pair(Chain):
        def forward(self, x: Tensor) -> Tensor:
            first, second = super().forward(x).split([1, 2])
            return torch.cat([first, second])

    captured, groups = labelled(Pair(), torch.randn(3, 4, 10))
    assert 0 not in captured.dynamic[0]
    assert Memory(captured, groups).original == 3 * 480


def models() -> dict[str, tuple[nn.Module, Tensor]]:
    attention = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    return {
        "detector": (Detector(), torch.randn(2, 12, 50)),
        "transformer": (nn.Sequential(nn.Linear(12, 16), attention, nn.Linear(16, 3)), torch.randn(2, 20, 12)),
    }


@pytest.mark.parametrize("name", models())
def test_the_cost_is_what_sliced_models_measure(name: str) -> None:
    captured, groups = labelled(models()[name][0], models()[name][1])
    memory = Memory(captured, groups)
    assert memory.cost().at(memory.full) == memory.original
    for shares in ((0.25, 0.9), (0.9, 0.25), (0.5, 0.5)):
        widths = {g.name: max(1, int(shares[i % 2] * g.size)) for i, g in enumerate(groups.shrinkable)}
        assert memory.cost().at(widths) == memory.measure(shrinkspeech.slice(captured, groups, widths))


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Detector().eval(), (torch.randn(2, 12, 50),))


def test_a_budget_of_memory_is_met_and_nothing_of_it_is_wasted(captured: Captured) -> None:
    result = shrinkspeech.fit(captured, RECIPE, target_memory="30%", steps=12, seconds=SECONDS)
    groups = shrinkspeech.label(captured)
    goal = Goal.whole(Memory, captured, groups).towards(Memory.parse("30%"))
    assert result.report.budget.reached == Memory(captured, groups).measure(result.captured) == goal.at(result.widths)
    assert result.report.budget.target == goal.target == 0.3 * 12_800
    assert 0.95 * goal.target <= result.report.budget.reached <= goal.target
    for name, width in result.widths.items():
        assert width == goal.full[name] or goal.at({**result.widths, name: width + 1}) > goal.target


def test_groups_that_have_no_part_in_the_peak_stay_whole() -> None:
    """The first convolution runs at full rate, the second on a tenth of the frames."""
    model = nn.Sequential(
        nn.Conv1d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool1d(10), nn.Conv1d(8, 12, 1), nn.Conv1d(12, 1, 1)
    )
    captured, _ = labelled(model, torch.randn(2, 1, 200))
    recipe = SimpleNamespace(
        train_batches=lambda: iter([torch.randn(4, 1, 200)] * 20), loss=lambda outputs, batch: outputs.square().mean()
    )
    result = shrinkspeech.fit(captured, recipe, target_memory="50%", steps=8)
    assert result.report.budget.original == 2 * 8 * 200 * 4
    assert result.widths == {"0": 4, "3": 12}


class Residual(nn.Module):
    """``[B, 4, T]`` → ``[B, 4, T]``: a branch of 8 channels beside the input."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv1d(4, 8, 3, padding=1), nn.Conv1d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + self.down(self.up(x).relu())


def test_a_branch_that_has_left_needs_no_memory() -> None:
    """The cost still has its output, 160 bytes beside 2 x and the sum; the measure knows better."""
    captured, groups = labelled(Residual(), torch.randn(2, 4, 10))
    groups = allow_empty(groups, removable(captured, groups, slice_graph))
    memory = Memory(captured, groups)
    empty = shrinkspeech.slice(captured, groups, {"up": 0})
    assert memory.cost().at({"up": 0}) == 480
    assert memory.measure(empty) == 320


def test_a_run_of_the_graph_changes_no_state() -> None:
    class Counter(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.seen: Tensor

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(1.0)
            return super().forward(x) + self.seen

    captured, _ = labelled(Counter(), torch.randn(2, 4, 10))
    before = captured.parameters()["seen"].clone()
    buffers(captured)
    assert torch.equal(captured.parameters()["seen"], before)


def test_how_it_is_written() -> None:
    assert Memory.parse("64kB").value == 64_000
    assert Memory.parse("64KiB").value == 65_536
    assert Memory.text(64_000) == "64 kB"
    with pytest.raises(BudgetError, match="cannot read the target '3ms'"):
        Memory.parse("3ms")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_folder(tmp_path, monkeypatch)
    arguments: list[Any] = [*FIT]
    arguments[arguments.index("--target-flops")] = "--target-memory"
    code, out, err = run(arguments, capsys)
    assert code == 0, err
    assert "budget of 25.6 kB met: 25.6 kB" in out
    assert any(line.split()[:3] == ["memory", "51.2", "kB"] for line in out.splitlines())
