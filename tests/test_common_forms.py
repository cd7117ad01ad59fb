"""Operators of programs in core ATen, and of two results, are read as the common ones: the same groups, costs and values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.common_forms import FORMS
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.label import label

aten = torch.ops.aten


class Speech(nn.Module):
    """``[B, 6, T]`` through every kind of layer that core ATen has another name for."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(6, 8, 3, padding=2, dilation=2)
        self.b, self.g = nn.BatchNorm1d(8), nn.GroupNorm(2, 8)
        self.down, self.up = nn.Conv1d(8, 8, 3, stride=2, padding=1, groups=2), nn.ConvTranspose1d(8, 12, 4, 2, 1)
        self.image, self.back = nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 1, 3, padding=1)
        self.norm, self.q, self.o = nn.LayerNorm(12, eps=1e-3), nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(self.down(self.g(self.b(self.a(x)).relu())))
        h = h + self.back(self.image(h.unsqueeze(1)).relu()).squeeze(1)
        y = self.norm(h.transpose(1, 2))
        heads = self.q(y).unflatten(-1, (2, 6)).transpose(1, 2)
        z = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True, scale=0.3)
        return self.o(z.transpose(1, 2).flatten(2))


def test_a_decomposed_program_is_read_as_the_model_is() -> None:
    torch.manual_seed(0)
    model, x = Speech().eval(), (torch.randn(2, 6, 16),)
    program = torch.export.export(model, x).run_decompositions()
    names = {node.target for node in program.graph.nodes}
    assert {target for target in FORMS if "mean" not in str(target)} <= names
    read, plain = capture(program, x), capture(model, x)
    assert not {node.target for node in read.graph_module.graph.nodes} & FORMS.keys()
    groups, wanted = label(read), label(plain)
    assert not groups.unknown
    assert sorted(group.size for group in groups.shrinkable) == sorted(group.size for group in wanted.shrinkable)
    assert count(read, groups).original == count(plain, wanted).original
    assert max_difference(read.graph_module(*x), model(*x)) < 1e-6


PAIRS: dict[str, Any] = {
    "var_mean of channels": lambda y: torch.var_mean(y, -1, keepdim=True),
    "unbiased or not": lambda y: torch.var_mean(y, dim=-1, correction=0, keepdim=True),
    "std_mean over time": lambda y: torch.std_mean(y, 1, keepdim=True),
    "by the old names": lambda y: aten.std_mean.dim(y, [-1], False, True),
    "of everything": lambda y: aten.var_mean.default(y, False),
    "one of the two": lambda y: (1.0, torch.var_mean(y, -1, keepdim=True)[1]),
}


class Normed(nn.Module):
    def __init__(self, pair: Any) -> None:
        super().__init__()
        self.a, self.b, self.pair = nn.Linear(6, 8), nn.Linear(8, 2), pair

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        spread, mean = self.pair(y)
        return self.b((y - mean) / (spread + 0.1))


@pytest.mark.parametrize("name", PAIRS)
def test_two_results_in_one_call_are_two_calls(name: str) -> None:
    torch.manual_seed(0)
    model, x = Normed(PAIRS[name]).eval(), torch.randn(3, 5, 6)
    captured = capture(model, (x,))
    groups = label(captured)
    assert not groups.unknown
    assert [group.size for group in groups.shrinkable] == [8]
    assert max_difference(captured.graph_module(x), model(x)) < 1e-6


def test_a_result_that_the_common_operator_lacks_is_left() -> None:
    """Nothing is said of a norm whose mean is read, too."""

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 8)

        def forward(self, x: Tensor) -> Any:
            normed, mean, _ = torch.native_layer_norm(self.a(x), [8], None, None, 1e-5)
            return normed, mean

    captured = capture(Told().eval(), (torch.randn(3, 5, 6),))
    assert set(label(captured).unknown.values()) == {"aten.native_layer_norm.default"}
