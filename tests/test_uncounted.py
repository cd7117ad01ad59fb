"""What has no rule is counted by torch's formulas; what nobody can count is named by whoever prints or promises a total."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shrinkspeech_cli.summary import summary, sweep_summary
from torch import Tensor, nn
from torch.export import export
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

import shrinkspeech
from shrinkspeech.errors import BudgetError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.quiet import quiet
from shrinkspeech.surgery.depth import allow_empty, removable
from shrinkspeech.surgery.part import Part
from shrinkspeech.surgery.slice import slice as slice_graph
from tests.command import BATCHES, LOSS, refused, run, tiny_folder

B, T, C = 2, 30, 6
X = torch.randn(B, T, C, generator=torch.Generator().manual_seed(0))
FRAMES = B * T


@torch.library.custom_op("shrinkspeech_test::gram", mutates_args=())
def gram(x: Tensor) -> Tensor:
    return x @ x.mT @ x


@torch.library.custom_op("shrinkspeech_test::registered", mutates_args=())
def registered(x: Tensor) -> Tensor:
    return x @ x.mT @ x


for operator in (gram, registered):
    operator.register_fake(torch.empty_like)
    operator.register_autograd(lambda ctx, gradient: gradient)


@register_flop_formula(torch.ops.shrinkspeech_test.registered)
def _products(x_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 4 * x_shape[0] * x_shape[1] ** 2 * x_shape[2]


class Model(nn.Module):
    """``forward(self, x)`` is given; layers and a matrix that it may use."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.w, self.square = nn.Parameter(torch.randn(5, C)), nn.Parameter(torch.randn(C, C))
        self.line, self.both, self.conv = nn.Linear(C, 5), nn.Bilinear(C, C, 4), nn.Conv1d(C, 8, 3)
        self.norm, self.gru = nn.LayerNorm(C), nn.GRU(C, 7, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def captured(function: Callable[[Any, Tensor], Tensor]) -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Model(function).eval(), (X,))


def branches(m: Any, x: Tensor) -> Tensor:
    """Either of two bodies, one of two products."""
    return torch.cond(x.sum() > 0, lambda x: m.line(x), lambda x: m.line(x @ m.square), (x,))


@pytest.mark.parametrize(
    ("function", "operations"),
    [
        (lambda m, x: torch.einsum("btc,cc->bt", x, m.square), 2 * FRAMES * C),
        (lambda m, x: torch.tensordot(x, m.w, ([2], [1])), 2 * FRAMES * C * 5),
        (lambda m, x: torch.linalg.multi_dot([m.w, m.square, m.square]), 2 * 2 * 5 * C * C),
        (lambda m, x: torch.cdist(x, m.w), 2 * FRAMES * (C + 2) * 5),
        (lambda m, x: registered(x), 2 * 2 * B * T * T * C),
        (branches, 2 * FRAMES * C * (C + 5)),
    ],
    ids=["diagonal", "tensordot", "multi_dot", "distances by a product", "a formula given to torch", "cond"],
)
def test_torch_counts_what_has_no_rule(function: Any, operations: int) -> None:
    record = captured(function)
    groups = shrinkspeech.label(record)
    assert groups.unknown
    assert not groups.uncounted
    assert shrinkspeech.flops(record, groups) * record.batch == operations


@pytest.mark.parametrize(
    ("function", "operations"),
    [
        (lambda m, x: m.conv(x.mT), 2 * B * (T - 2) * 8 * C * 3),
        (lambda m, x: m.line(m.norm(x)), 2 * FRAMES * C * 5),
        (lambda m, x: m.both(x, x), 2 * FRAMES * 4 * C * (C + 1)),
        (lambda m, x: m.gru(x)[0], 2 * FRAMES * 3 * 7 * (C + 7)),
        (lambda m, x: nn.functional.scaled_dot_product_attention(x, x, x), 2 * 2 * B * T * T * C),
    ],
    ids=["convolution", "addmm", "trilinear", "gru", "attention"],
)
def test_a_program_of_core_operators_costs_the_same(function: Any, operations: int) -> None:
    torch.manual_seed(0)
    with quiet():
        program = export(Model(function).eval(), (X,)).run_decompositions()
    for record in (shrinkspeech.capture(program, (X,)), captured(function)):
        assert not shrinkspeech.label(record).uncounted
        assert shrinkspeech.flops(record) * record.batch == operations


def test_two_features_with_a_weight_between_them_may_shrink() -> None:
    record = captured(lambda m, x: m.line(m.norm(x).cumsum(1)) * m.both(x @ m.square, x).sum(-1, True))
    assert not shrinkspeech.label(record).unknown


FREE = {
    "on elements": lambda x: torch.special.erfcx(x),
    "in order": lambda x: x.cummax(1)[0] + x.sort(1)[0] + x.kthvalue(2, 1, True)[0] + x.median(1, True)[0],
    "on places": lambda x: x.clone().index_put((torch.tensor([0]),), x[:1]) + x.scatter(1, x.argsort(1), x),
    "views": lambda x: x.as_strided((B, T, C), (T * C, C, 1)) + torch.view_as_real(torch.complex(x, x))[..., 0],
    "resampled": lambda x: nn.functional.interpolate(x[:, None], (9, 5), mode="bicubic", antialias=True),
    "transformed": lambda x: torch.fft.fftn(x, dim=(1, 2)).abs(),
    "random": lambda x: x + torch.poisson(x.abs()) * 0,
}


@pytest.mark.parametrize("name", FREE)
def test_work_on_elements_costs_nothing_with_or_without_a_rule(name: str) -> None:
    record = captured(lambda m, x: FREE[name](x))
    groups = shrinkspeech.label(record)
    assert groups.unknown
    assert not groups.uncounted
    assert shrinkspeech.flops(record, groups) == 0


OPAQUE = {
    "shrinkspeech_test.gram.default": lambda m, x: gram(x),
    "aten._linalg_solve_ex.default": lambda m, x: torch.linalg.solve(m.square, x.mT),
    "aten._cdist_forward.default": lambda m, x: torch.cdist(x[:, :3], m.w),
    "aten._linalg_svd.default": lambda m, x: torch.linalg.svd(x)[0],
}


@pytest.mark.parametrize("operator", OPAQUE)
def test_what_nobody_can_count_is_named_with_its_line(operator: str) -> None:
    record = captured(OPAQUE[operator])
    groups = shrinkspeech.label(record)
    [(node, text)] = groups.uncounted.items()
    assert node in groups.unknown
    assert text.startswith(f"{operator} (model (Model), test_uncounted.py:")
    with FlopCounterMode(display=False) as counter:
        record.copy()(X)
    assert counter.get_total_flops() == 0


class Net(nn.Module):
    """``[B, T, 6]`` → ``[B, T, 2]``; with ``hidden`` an operator that nobody counts."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.first, self.second, self.out, self.hidden = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2), hidden

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.out(self.second(gram(y) if self.hidden else y).relu())


RECIPE = SimpleNamespace(
    train_batches=lambda: [(0.1 * torch.randn(4, 5, 6),)], loss=lambda outputs, batch: outputs.square().mean()
)


def net(hidden: bool = True) -> Captured:
    torch.manual_seed(0)
    return shrinkspeech.capture(Net(hidden).eval(), (0.1 * torch.randn(2, 5, 6),))


def test_a_budget_of_flops_is_not_promised() -> None:
    record = net()
    for promise in (
        lambda: shrinkspeech.fit(record, RECIPE, "80%", steps=2),
        lambda: shrinkspeech.sweep(record, RECIPE, ["80%"], steps=2),
    ):
        with pytest.raises(BudgetError) as refusal:
            promise()
        assert "nobody can count shrinkspeech_test.gram.default (model (Net), test_uncounted.py:" in str(refusal.value)
        assert "--ignore-uncounted (ignore_uncounted=True)" in str(refusal.value)
    fitted = shrinkspeech.fit(record, RECIPE, target_params="80%", steps=2)
    assert len(fitted.report.uncounted) == 1


@pytest.mark.parametrize("hidden", [True, False])
def test_a_fit_and_a_sweep_name_what_is_not_counted(
    hidden: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shrinkspeech.fit(net(hidden), RECIPE, "80%", steps=4, ignore_uncounted=True)
    assert len(result.report.uncounted) == hidden
    [swept] = shrinkspeech.sweep(net(hidden), RECIPE, ["80%"], steps=4, ignore_uncounted=True)
    assert swept.report.uncounted == result.report.uncounted
    summary(result, {"first": 8, "second": 8}, tmp_path)
    one = capsys.readouterr().out
    sweep_summary({"80%": result, "70%": swept}, tmp_path)
    for out in (one, capsys.readouterr().out):
        said = " ".join(out.split())
        named = "not in any of these FLOP/s, as nobody can count it: shrinkspeech_test.gram.default (model (Net)"
        assert said.count(named) == said.count("not in any") == int(hidden)


class Branch(nn.Module):
    """What nobody counts, in a branch beside a straight way."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.back = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.inside(gram(x)).relu())


def test_what_left_with_a_branch_is_no_longer_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), Branch(), nn.Linear(6, 2)).eval()
    record = shrinkspeech.capture(model, (0.1 * torch.randn(2, 5, 6),))
    groups = shrinkspeech.label(record)
    part = Part.whole(record, allow_empty(groups, removable(record, groups, slice_graph)))
    gone = part.slice({name: [] if name == "1.inside" else units for name, units in part.kept.items()})
    assert len(part.groups.uncounted) == len(part.groups.unknown) == 1
    assert not gone.groups.uncounted
    assert not gone.groups.unknown


def test_an_exported_file_comes_with_what_is_not_counted(tmp_path: Path) -> None:
    record = captured(lambda m, x: m.line(x) * torch.linalg.det(m.square))
    report = shrinkspeech.export_onnx(record, tmp_path / "model.onnx")
    [note] = [note for note in report.notes if "FLOP/s" in note]
    assert note.startswith("not in these FLOP/s, as nobody can count it: aten._linalg_det.default (model (Model)")


SOLVED = """
import torch
from tiny import Net

class Solved(Net):
    def forward(self, x):
        return super().forward(torch.linalg.solve(torch.eye(x.shape[0]), x))
"""


def test_the_command_refuses_and_takes_the_users_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder(tmp_path, monkeypatch)
    (folder / "solved.py").write_text(SOLVED)
    (folder / "recipe.py").write_text(BATCHES + LOSS)
    model = ["weights.pt", "--factory", "solved:Solved"]
    where = "aten._linalg_solve_ex.default (model (Solved), solved.py:7)"
    _, out, _ = run(["inspect", *model, "--example", "2x800"], capsys)
    assert "as nobody can count it (a budget of FLOP/s needs --ignore-uncounted):" in out
    assert where in out
    _, out, _ = run(["inspect", *model, "--example", "2x800", "--json"], capsys)
    assert json.loads(out)["uncounted"] == [where]
    training = ["--recipe", "recipe.py", "--steps", "2", "--no-export-check"]
    fit = ["fit", *model, *training, "--target-flops", "90%", "-o", "run"]
    assert where in refused(fit, capsys)
    assert not (folder / "run").exists()
    sweep = ["sweep", *model, *training, "--budgets", "90%", "-o", "runs"]
    assert where in refused(sweep, capsys)
    code, out, err = run([*fit, "--ignore-uncounted"], capsys)
    assert code == 0, err
    assert f"not in any of these FLOP/s, as nobody can count it: {where}" in out
    assert json.loads((folder / "run" / "report.json").read_text())["uncounted"] == [where]
