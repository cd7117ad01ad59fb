"""What has no rule is in no FLOP/s; whoever prints a total says so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from shrinkspeech_cli.summary import summary, sweep_summary
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.fitting.report import Fitted


@torch.library.custom_op("shrinkspeech_test::gram", mutates_args=())
def gram(x: Tensor) -> Tensor:
    return x @ x.mT @ x


gram.register_fake(torch.empty_like)
gram.register_autograd(lambda ctx, gradient: gradient)


class Net(nn.Module):
    """``[B, T, 6]`` → ``[B, T, 2]``; with ``hidden`` an operator that nobody counts."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.first, self.second, self.out, self.hidden = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2), hidden

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.out(self.second(gram(y) if self.hidden else y).relu())


def fitted(hidden: bool) -> Fitted:
    torch.manual_seed(0)
    captured = shrinkspeech.capture(Net(hidden).eval(), (0.1 * torch.randn(2, 5, 6),))
    recipe = SimpleNamespace(
        train_batches=lambda: [(0.1 * torch.randn(4, 5, 6),)], loss=lambda outputs, batch: outputs.square().mean()
    )
    return shrinkspeech.fit(captured, recipe, "80%", steps=4)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_fit_and_a_sweep_name_what_is_not_counted(
    hidden: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = fitted(hidden)
    assert result.report.without_rule == (("shrinkspeech_test.gram.default",) if hidden else ())
    summary(result, {"first": 8, "second": 8}, tmp_path)
    one = capsys.readouterr().out
    sweep_summary({"80%": result, "70%": result}, tmp_path)
    for out in (one, capsys.readouterr().out):
        said = " ".join(out.split())
        assert ("not in any of these FLOP/s: shrinkspeech_test.gram.default, without a rule" in said) == hidden
        assert said.count("not in any of these") == int(hidden)
