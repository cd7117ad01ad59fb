"""Results written into tensors made for them are fitted, sliced and exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from samples import apply
from samples.assignments import A as LAYERS
from samples.assignments import in_parts, preallocated
from torch import Tensor, nn

from shrinkspeech.export.exporter import export_onnx
from shrinkspeech.fitting.fit import fit
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.compare import max_difference

X = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    """``[B, T, 6]`` → ``[B, T, 2]``: as a program reads that torch has rid of assignments."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.slice_scatter(torch.zeros(x.shape[0], x.shape[1], 12), self.a(x), 1, 0, x.shape[1])
        made = torch.ops.aten.copy(torch.zeros_like(made), made.tanh())
        made = torch.index_put(made, [made < 0], torch.tensor(0.25))
        return self.b(torch.ops.aten.copy(torch.empty(2, *made.shape, dtype=torch.double), made).sum(0).float())


@pytest.mark.parametrize("make", [apply(preallocated, **LAYERS), apply(in_parts, **LAYERS), Functional])
def test_models_that_assign_are_fitted(make: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make().eval()
    captured = capture(model, (X,))
    assert max_difference(captured.graph_module(X), model(X)) <= 1e-6
    assert "aten.copy.default" not in {str(node.target) for node in captured.graph_module.graph.nodes}
    recipe = Recipe(train_batches=lambda: iter([X]), loss=None, inputs=lambda batch: (batch,), name="r")
    fitted = fit(captured, recipe, "60%", steps=8)
    assert fitted.report.flops <= 0.6 * fitted.report.original_flops
    small = fitted.captured
    assert small.graph_module.get_parameter("a.weight").shape[0] < 12
    assert not torch.equal(small.graph_module.get_parameter("b.bias"), model.b.bias)
    export_onnx(small, tmp_path / "m.onnx")


def test_gradients_of_a_copy_are_those_of_what_is_written() -> None:
    model = apply(preallocated, **LAYERS)()
    captured = capture(model.eval(), (X,))
    module = captured.module()
    module(X).square().sum().backward()
    model(X).square().sum().backward()
    wanted, found = model.a.weight.grad, module.get_parameter("a.weight").grad
    assert wanted is not None
    assert found is not None
    assert torch.allclose(found, wanted, atol=1e-5)
