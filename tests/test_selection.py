"""Selection: which units are kept first, on networks whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.selection import _sensitivity, selection


class Two(nn.Module):
    """Six hidden features of three inputs, of which the reader takes what ``out`` says."""

    def __init__(self, hidden: Tensor, out: Tensor) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(3, len(hidden)), nn.Linear(len(hidden), len(out))
        with torch.no_grad():
            self.inside.weight.copy_(hidden)
            self.out.weight.copy_(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inside(x))


def ranked(model: nn.Module, x: Tensor, loss: Any = None) -> dict[str, list[int]]:
    """Units of each group, the one that is kept longest first."""
    captured = shrinkspeech.capture(model.eval(), (x[:2],))
    groups = shrinkspeech.label(captured)
    loss = loss or (lambda model, batch: model(batch).square().sum())
    scores = selection(captured, groups, [x], lambda batch: (batch,), loss)
    return {name: score.argsort(descending=True).tolist() for name, score in scores.items()}


def test_copies_go_before_what_only_one_unit_knows() -> None:
    """Units 0 and 1 are large and alike, unit 2 alone carries the third input, with a small weight."""
    hidden = torch.tensor([[3.0, 0, 0], [3.0, 0.001, 0], [0, 0, 0.5], [0, 1.0, 0], [0, 0.9, 0], [1.5, 0, 0]])
    torch.manual_seed(0)
    [order] = ranked(Two(hidden, torch.ones(1, 6)), torch.randn(500, 3)).values()
    inputs = [{0: 0, 1: 0, 5: 0, 3: 1, 4: 1, 2: 2}[unit] for unit in order]
    assert sorted(inputs[:3]) == [0, 1, 2]


def test_a_unit_that_nothing_reads_goes_first() -> None:
    torch.manual_seed(0)
    hidden, out = torch.diag(torch.tensor([1.0, 9.0, 1.0])), torch.randn(4, 3) * torch.tensor([1.0, 0, 1])
    [order] = ranked(Two(hidden, out), torch.randn(200, 3)).values()
    assert order[-1] == 1


def test_outputs_that_the_loss_does_not_feel_do_not_count() -> None:
    """Unit 0 feeds the first output alone, unit 1 the second, which the loss leaves out."""
    hidden, out = torch.eye(3)[:2] * torch.tensor([[1.0], [5.0]]), torch.eye(2)
    torch.manual_seed(0)
    [order] = ranked(
        Two(hidden, out), torch.randn(100, 3), lambda model, batch: model(batch)[:, 0].square().sum()
    ).values()
    assert order[0] == 0


def test_the_best_of_a_kept_set_gives_the_least_error() -> None:
    """The error of the outputs, the rest regressed on what is kept, is that of the best of all sets, or nearly."""
    from itertools import combinations

    torch.manual_seed(1)
    mixing, out, x = torch.randn(6, 3), torch.randn(4, 6), torch.randn(2_000, 3)
    [order] = ranked(Two(mixing, out), x).values()
    features = x @ mixing.T + 0.0
    features = features - features.mean(0)

    def error(kept: tuple[int, ...]) -> float:
        solution = torch.linalg.lstsq(features[:, list(kept)], features).solution
        return float(((features - features[:, list(kept)] @ solution) @ out.T).square().mean())

    chosen = error(tuple(order[:2]))
    errors = sorted(error(pair) for pair in combinations(range(6), 2))
    assert chosen <= errors[len(errors) // 4]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.gru, self.out = nn.Linear(3, 6), nn.GRU(6, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.inside(x).relu())[0])


def test_what_a_recurrence_reads_is_left_to_other_scores() -> None:
    torch.manual_seed(0)
    assert "gru" not in ranked(Recurrent(), torch.randn(4, 7, 3))


def test_what_a_norm_over_channels_reads_is_left_to_other_scores() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    found = ranked(model, torch.randn(50, 3))
    assert [len(order) for order in found.values()] == [5]


class Summed(nn.Module):
    """A sum over the units reads them beside the matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(3, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inside(x).relu()
        return self.out(hidden) + 100 * hidden.sum(-1, keepdim=True)


class LastState(nn.Module):
    """Of the recurrence only the last state is used, which feels its input as well."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.gru = nn.Linear(6, 6), nn.GRU(6, 5, batch_first=True)
        self.out, self.more = nn.Linear(5, 2), nn.Linear(6, 2)
        with torch.no_grad():
            self.inside.weight.copy_(torch.eye(6))
            self.more.weight[:, :3] = 0.0
            self.gru.weight_ih_l0[:, 3:] = 0.0
            self.more.weight.mul_(1e-3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inside(x)
        return self.out(self.gru(hidden)[1][-1]) + self.more(hidden.mean(1))


def test_what_is_summed_is_left_to_other_scores() -> None:
    torch.manual_seed(0)
    assert ranked(Summed(), torch.randn(30, 3)) == {}


def test_a_last_state_counts_as_a_reader() -> None:
    torch.manual_seed(0)
    order = ranked(LastState(), torch.randn(64, 7, 6))["inside"]
    assert set(order[:3]) == {0, 1, 2}


def test_batches_of_several_lengths() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 3)).eval()
    captured = shrinkspeech.capture(model, (torch.randn(2, 3, 20),))
    batches = [torch.randn(4, 3, length) for length in (20, 30)]
    groups = shrinkspeech.label(captured)
    [score] = selection(captured, groups, batches, lambda x: (x,), lambda m, x: m(x).square().mean()).values()
    assert sorted(score.tolist()) == [1, 2, 3, 4, 5, 6]


def test_models_without_anything_to_choose_by() -> None:
    """Nothing folds; and features that never change say nothing."""
    torch.manual_seed(0)
    transposed = nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.ConvTranspose1d(6, 3, 3, groups=3))
    assert ranked(transposed, torch.randn(4, 3, 20)) == {}
    dead = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 5, 2))
    with torch.no_grad():
        dead[0].bias.fill_(-100.0)
    assert ranked(dead, torch.randn(4, 1, 8, 5)) == {}


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_and_changes_in_place(kernel: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(3, 6, kernel), nn.ReLU(inplace=True), nn.Conv1d(6, 4, kernel), nn.ReLU(inplace=True)
    )
    [order] = ranked(model, torch.randn(4, 3, 20)).values()
    assert sorted(order) == list(range(6))


class ChangedInPlace(nn.Module):
    """Part of what a matrix returns is changed where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.middle, self.out = nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.middle(torch.relu(self.inside(x)))
        y[..., :4].mul_(3.0)
        return self.out(y)


class Quantised(nn.Module):
    """A decoder behind a hard decision: no gradient comes from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.choice, self.book = nn.Linear(8, 16), nn.Linear(16, 10), nn.Embedding(10, 12)
        self.middle, self.out = nn.Linear(12, 14), nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        codes = self.choice(torch.relu(self.inside(x))).argmax(-1)
        return self.out(torch.relu(self.middle(self.book(codes))))


class Placed(nn.Module):
    """A branch that starts from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(5, 6))
        self.inside, self.back, self.out = nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.back(torch.relu(self.inside(self.places))))


class WithOffsets(torch.fx.Interpreter):
    """Adds a zero to what some nodes return, before anything else sees it."""

    def __init__(self, module: torch.fx.GraphModule, nodes: set[str]) -> None:
        super().__init__(module)
        self.nodes, self.offsets = nodes, {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.nodes:
            self.offsets[n.name] = torch.zeros_like(result).requires_grad_()
            result = (
                result.detach() + self.offsets[n.name] if not result.requires_grad else result + self.offsets[n.name]
            )
        return result


@pytest.mark.parametrize(("model", "readers"), [(ChangedInPlace, 3), (Quantised, 2), (Placed, 3)])
def test_what_the_loss_feels_is_its_gradient(model: type[nn.Module], readers: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, 8)
    captured = shrinkspeech.capture(model().eval(), (x[:2],))
    effects = shrinkspeech.label(captured).effects
    folds = {node: effect.folds[0] for node, effect in effects.items() if effect.folds}
    found = _sensitivity(captured.graph_module, folds, [x], lambda m, batch: m(batch)[0].square().sum())
    assert all(p.requires_grad for p in captured.graph_module.parameters())
    probe = WithOffsets(captured.graph_module, set(folds))
    loss = probe.run(x)[0].square().sum()
    gradients = torch.autograd.grad(loss, list(probe.offsets.values()), allow_unused=True)
    known = {name: g for name, g in zip(probe.offsets, gradients, strict=True) if g is not None}
    assert len(known) == readers
    assert set(found) == set(known)
    for name, gradient in known.items():
        assert torch.allclose(found[name].float(), gradient.square().flatten(0, -2).sum(0), rtol=1e-4), name


def test_large_groups_are_chosen_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies still go: of three pairs of equal features one each is kept first, also where two are chosen at a time."""
    monkeypatch.setattr("shrinkspeech.fitting.selection.ROUNDS", 3)
    monkeypatch.setattr("shrinkspeech.fitting.selection.SEQUENTIAL", 1)
    torch.manual_seed(0)
    hidden = torch.eye(3).repeat(2, 1) * torch.tensor([[5.0], [4.0], [0.1], [0.2], [4.5], [0.1]])
    [order] = ranked(Two(hidden, torch.ones(1, 6)), torch.randn(300, 3)).values()
    assert {unit % 3 for unit in order[:2]} == {0, 1}
    assert order[2] % 3 == 2
