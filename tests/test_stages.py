"""The stages of a fit one by one: what each leaves, and that it goes on from its state as if nothing had happened."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.fit import STAGES, shrink
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.fitting.stages.gate import Gates
from shrinkspeech.fitting.stages.stage import Draft
from shrinkspeech.fitting.stages.warm_start import WarmStart
from shrinkspeech.fitting.trainer import Trainer
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from tests.detector import SECONDS, batch, job, trained


@pytest.fixture(scope="module")
def captured() -> Captured:
    return trained(60)


def warm(captured: Captured, target: str, settings: Settings | None = None) -> Draft:
    shared = job(captured, target, settings=settings)
    return WarmStart(shared).improve(shared.draft())


def test_the_warm_start_slices_to_twice_the_budget(captured: Captured) -> None:
    draft, original = warm(captured, "20%"), shrinkspeech.flops(captured, seconds=SECONDS)
    assert 0.2 * original < 0.9 * 0.4 * original < draft.cost <= 0.4 * original
    assert shrinkspeech.flops(draft.part.captured, seconds=SECONDS) == pytest.approx(draft.cost)
    sizes = {group.name: group.size for group in shrinkspeech.label(captured).shrinkable}
    assert draft.widths == draft.part.widths
    assert all(2 <= draft.widths[name] < size for name, size in sizes.items())
    shares = [draft.widths[name] / size for name, size in sizes.items()]
    assert max(shares) - min(shares) < 0.1, "the same share of every group"
    assert draft.part.captured.graph_module.get_parameter("head.weight").shape == (1, draft.widths["gru#1"])


@pytest.mark.parametrize(("target", "settings"), [("60%", Settings()), ("20%", Settings(warm_start=None))])
def test_without_a_warm_start_units_are_ranked_alone(captured: Captured, target: str, settings: Settings) -> None:
    draft = warm(captured, target, settings)
    assert draft.widths == {group.name: group.size for group in shrinkspeech.label(captured).shrinkable}
    assert draft.part.captured is captured
    assert any(list(places) != sorted(places) for places in draft.part.ranks.places.values())


def test_the_warm_start_keeps_the_units_of_highest_score(captured: Captured) -> None:
    shared = job(captured, "20%", settings=Settings(score="magnitude"))
    stage = WarmStart(shared)
    scores, draft = stage.scores(shared.whole, []), stage.improve(shared.draft())
    for name, width in draft.widths.items():
        assert list(draft.part.kept[name]) == sorted(scores[name].topk(int(width)).indices.tolist())


def gates_after(captured: Captured, steps: int, settings: Settings | None = None) -> Gates:
    """Steps towards a twentieth, without any re-slicing."""
    torch.manual_seed(0)
    shared = job(captured, "5%", steps, settings)
    gates = Gates(shared, WarmStart(job(captured, settings=Settings(warm_start=None))).improve(shared.draft()).part)
    for i in range(steps):
        gates.step(shared.goal.original * 0.05 ** ((i + 1) / steps), 2.0)
    return gates


def seeded(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(5)
    return model(x).detach()


def test_a_reslice_leaves_the_kind_of_gate(captured: Captured) -> None:
    before = gates_after(captured, 12, Settings(keep_power=True))
    after = before.reslice(window=2.0)
    assert after is not before
    assert [gates.model.widths.keep_power for gates in (before, after)] == [True, True]


def test_a_reslice_leaves_everything_that_is_kept_as_it_was(captured: Captured) -> None:
    before = gates_after(captured, 12)
    x = batch(8)[0]
    noisy, quiet = seeded(before.model.train(), x), before.model.eval()(x)
    after = before.reslice(window=2.0)
    assert after is not before
    assert sum(p.numel() for p in after.weights) < 0.5 * sum(p.numel() for p in before.weights)
    assert max_difference(after.model.eval()(x), quiet) <= 1e-5
    assert max_difference(seeded(after.model.train(), x), noisy) <= 1e-5
    assert after.real == pytest.approx(before.real)
    assert after.reslice(window=2.0) is after
    for name in after.names:
        units = [list(before.part.kept[name]).index(unit) for unit in after.part.kept[name]]
        order = [before.part.ranks.places[name][unit] for unit in units]
        assert sorted(order) == list(range(len(units))), "the units that are kept longest"
        assert list(after.part.ranks.places[name]) == order
    units = list(after.part.kept["convs.0"])
    weights = [dict(gates.model.graph.named_parameters())["convs.0.weight"] for gates in (before, after)]
    assert 0 < len(units) < len(weights[0])
    assert torch.equal(weights[1], weights[0][units])
    remembered = [gates.optimiser.state[weight] for gates, weight in zip((before, after), weights, strict=True)]
    assert all(torch.equal(remembered[1][key], remembered[0][key][units]) for key in ("exp_avg", "exp_avg_sq"))
    assert remembered[1]["step"] == remembered[0]["step"] == 12


def test_the_step_after_a_reslice_is_the_step_that_would_have_been(captured: Captured) -> None:
    whole, sliced = gates_after(captured, 12), gates_after(captured, 12)
    sliced = sliced.reslice(window=2.0)
    assert sliced.part.widths != whole.part.widths
    for gates in (whole, sliced):
        torch.manual_seed(3)
        for _ in range(3):
            gates.step(gates.job.goal.target, 2.0)
    assert sliced.real == pytest.approx(whole.real, rel=1e-3)
    assert max_difference(sliced.model.eval()(batch(8)[0]), whole.model.eval()(batch(8)[0])) <= 1e-3


@pytest.mark.parametrize("steps", [0, 3])
def test_stages_go_on_from_their_states(captured: Captured, steps: int) -> None:
    """Each stage is given up after some steps, or as many as it has, and a new one loads its state."""
    shared = job(captured, "20%", 10)
    draft = shared.draft()
    for kind in STAGES:
        first, second = kind(shared), kind(shared)
        first.begin(draft)
        for _ in range(steps):
            if not first.done:
                first.step()
        second.load(first.state())
        assert second.done == first.done
        same(second.state(), first.state())
        while not second.done:
            second.step()
        draft = second.result()
    assert 0.98 * shared.goal.target <= draft.cost <= shared.goal.target


def same(a: Any, b: Any) -> None:
    """Both are equal, tensors to the bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_what_accelerate_puts_around_a_model_changes_nothing(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a model is trained on several devices, it stands in a wrapper whose tensors have other names."""
    torch.manual_seed(0)
    plain = shrink(job(captured, "20%", 8))
    prepare = Trainer.prepare

    def wrapped(self: Trainer, *arguments: Any) -> Any:
        model, optimiser = prepare(self, *arguments)
        return nn.DataParallel(model), optimiser

    monkeypatch.setattr(Trainer, "prepare", wrapped)
    torch.manual_seed(0)
    small = shrink(job(captured, "20%", 8)).part.captured.parameters()
    assert small.keys() == plain.part.captured.parameters().keys()
    assert all(torch.equal(tensor, small[name]) for name, tensor in plain.part.captured.parameters().items())
