"""A training loop of one's own: what is trained is what is sliced and exported, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import shrinkspeech
from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured
from tests.detector import RECIPE


@pytest.fixture
def captured() -> Captured:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    return shrinkspeech.capture(model, (torch.randn(4, 6),))


def train(module: nn.Module) -> None:
    """One large step."""
    optimiser = torch.optim.SGD(module.parameters(), 0.5)
    module(torch.ones(4, 6)).square().mean().backward()
    optimiser.step()


USES: dict[str, Callable[[Captured, Path], Any]] = {
    "slice": lambda captured, folder: shrinkspeech.slice(captured, shrinkspeech.label(captured), {"0": 4}),
    "export": lambda captured, folder: shrinkspeech.export_onnx(captured, folder / "model.onnx"),
    "save": lambda captured, folder: captured.save(folder / "model.pt2"),
    "gate": lambda captured, folder: shrinkspeech.gate(captured, shrinkspeech.label(captured)),
    "fit": lambda captured, folder: shrinkspeech.fit(captured, RECIPE, "50%"),
    "sweep": lambda captured, folder: shrinkspeech.sweep(captured, RECIPE, ["50%"]),
}


@pytest.mark.parametrize("use", USES)
def test_a_record_whose_copy_was_trained_is_refused(captured: Captured, tmp_path: Path, use: str) -> None:
    module = captured.module()
    train(module)
    with pytest.raises(InputError, match=r"go on with captured\.trained\(module\)"):
        USES[use](captured, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_trained_record_has_the_trained_weights(captured: Captured, tmp_path: Path) -> None:
    module, x = captured.module(), torch.randn(3, 6)
    train(module)
    small = shrinkspeech.slice(captured.trained(module), shrinkspeech.label(captured), {"0": 8})
    assert torch.equal(small.graph_module(x), module(x))
    assert not torch.allclose(captured.graph_module(x), module(x))
    train(module)  # the record is a picture of then, and a later step does not move it
    assert not torch.allclose(small.graph_module(x), module(x))
    assert shrinkspeech.export_onnx(captured.trained(module), tmp_path / "model.onnx").difference < 1e-5


def test_gates_that_were_trained_count_too(captured: Captured) -> None:
    groups = shrinkspeech.label(captured)
    gated = shrinkspeech.gate(captured, groups)
    gated.widths.set({"0": 4})
    shrinkspeech.slice(captured, groups, {"0": 4})  # widths that are set by hand are no training
    train(gated.graph)
    with pytest.raises(InputError, match=r"captured\.trained"):
        shrinkspeech.slice(captured, groups, {"0": 4})
    shrinkspeech.slice(gated.captured(), groups, {"0": 4})


def test_a_copy_that_only_ran_is_no_reason_to_refuse(captured: Captured) -> None:
    module = captured.module().train()
    module(torch.randn(4, 6)).sum().backward()
    train(captured.copy())
    shrinkspeech.slice(captured, shrinkspeech.label(captured), {"0": 4})


def test_weights_of_another_graph_are_refused(captured: Captured) -> None:
    with pytest.raises(InputError, match=r"not of a copy of this graph"):
        captured.trained(nn.Linear(6, 8))


def test_a_fit_leaves_its_model_as_it_was(captured: Captured) -> None:
    """What a fit trains are copies of its own."""

    class Batches:
        @staticmethod
        def train_batches() -> list[tuple[torch.Tensor]]:
            return [(torch.randn(4, 6),)]

        @staticmethod
        def loss(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
            return outputs.square().mean()

    fitted = shrinkspeech.fit(captured, Batches, "60%", steps=4)
    shrinkspeech.slice(captured, shrinkspeech.label(captured), {"0": 4})
    fitted.captured.module()
