"""Batches of a recipe are drawn to the end of a fit and no further: what prepares them is told to stop at once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shrinkspeech
from shrinkspeech.graph.captured import Captured


@pytest.fixture(scope="module")
def captured() -> Captured:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    return shrinkspeech.capture(model, (torch.randn(4, 6),))


def recipe(ended: list[str], fault: bool = False) -> SimpleNamespace:
    def train_batches() -> Iterator[Tensor]:
        try:
            while True:
                yield torch.randn(4, 6)
        finally:
            ended.append("closed")

    def loss(outputs: Tensor, batch: Tensor) -> Tensor:
        if fault:
            raise RuntimeError("out of luck")
        return outputs.square().mean()

    return SimpleNamespace(train_batches=train_batches, loss=loss, inputs=lambda batch: batch)


@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_streams_are_closed(captured: Captured, command: str) -> None:
    ended: list[str] = []
    budget: Any = "50%" if command == "fit" else ["80%", "50%"]
    result = getattr(shrinkspeech, command)(captured, recipe(ended), budget, steps=6)
    assert result
    assert ended == ["closed"]


def test_a_stream_is_closed_after_a_fault(captured: Captured) -> None:
    ended: list[str] = []
    with pytest.raises(Exception, match="out of luck") as caught:
        shrinkspeech.fit(captured, recipe(ended, fault=True), "50%", steps=6)
    assert caught.value is not None  # its traceback holds the stream: nothing but closing it can have ended it
    assert ended == ["closed"]
