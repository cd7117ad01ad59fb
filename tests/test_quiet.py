"""Whoever captures hears nothing of the routes through torch that were given up."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._logging import _internal as torch_logging

import shrinkspeech
from shrinkspeech.errors import CaptureError
from shrinkspeech.graph.quiet import quiet


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What torch's own handlers write."""
    stream = io.StringIO()
    for handler in list(torch_logging.handlers):
        if isinstance(handler, logging.StreamHandler):
            monkeypatch.setattr(handler, "stream", stream)
    return stream


class Branches(nn.Module):
    """Which way it goes depends on the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x) if torch.ceil(x.sum()) > 3 else x


def test_a_refusal_is_all_that_is_said(heard: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError, match="data-dependent"):
        shrinkspeech.capture(Branches(), (torch.randn(2, 4),))
    assert heard.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def test_torch_is_heard_again_after(heard: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("torch.export")
    with quiet():
        with quiet():
            logger.warning("inside")
        logger.warning("between")
    assert heard.getvalue() == ""
    logger.warning("after")
    assert "after" in heard.getvalue()
    monkeypatch.setenv("TORCH_LOGS", "+dynamo")
    with quiet():
        logger.warning("asked for")
    assert "asked for" in heard.getvalue()


def test_sizes_that_sympy_cannot_solve_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = shrinkspeech.capture(nn.Linear(4, 4).eval(), (torch.randn(2, 4),))

    def unsolved(*args: object, **options: object) -> None:
        raise NotImplementedError("The inequality, Eq(x/8 - 12, 0),\ncannot be solved")

    monkeypatch.setattr(torch.export, "export", unsolved)
    with pytest.raises(CaptureError, match=r"NotImplementedError: The inequality, Eq\(x/8 - 12, 0\), cannot be solved"):
        captured.save(tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_a_route_that_failed_leaves_no_marks_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    export, seen = torch.export.export, list[Tensor]()

    def marking(module: nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> Any:
        assert not hasattr(inputs[0], "_dynamo_dynamic_indices")
        seen.append(inputs[0])
        if len(seen) < 3:
            inputs[0]._dynamo_dynamic_indices = {1}  # type: ignore[attr-defined]
            raise ValueError("not enough values to unpack (expected 2, got 0)")
        return export(module, inputs, **options)

    monkeypatch.setattr(torch.export, "export", marking)
    captured = shrinkspeech.capture(nn.Linear(4, 4).eval(), (torch.randn(2, 4),))
    assert captured.dynamic == (frozenset({0}),), "the third route makes the batch dynamic"
    assert len(seen) == 3
