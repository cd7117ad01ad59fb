"""The order of units from Python, by way of a gated module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import shrinkspeech
from shrinkspeech.surgery.insert import GatedModule


@pytest.fixture(scope="module")
def gated() -> GatedModule:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    captured = shrinkspeech.capture(model, (torch.randn(3, 6),))
    return shrinkspeech.gate(captured, shrinkspeech.label(captured))


def test_scores_of_one_group_say_which_of_its_units_are_kept(gated: GatedModule) -> None:
    gated.widths.set_rank("0", torch.tensor([0.1, 0.9, 0.4, 0.6]))
    assert gated.widths.rank("0").tolist() == [3, 0, 2, 1]
    assert gated.widths.rank("2").tolist() == [0, 1, 2, 3, 4]
    assert gated.widths.kept({"0": 2, "2": 3}) == {"0": [1, 3], "2": [0, 1, 2]}
    gated.widths.set({"0": 2})
    assert gated.widths.keep(gated.groups["0"].label).tolist() == [0, 1, 0, 1]  # type: ignore[union-attr]


def test_a_group_that_is_not_there_is_refused(gated: GatedModule) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        gated.widths.set_rank("nowhere", torch.ones(4))
