"""Factories with arguments, and inputs by position, by name, and in dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech import capture, export_onnx, load
from shrinkspeech.errors import LoadError

HERE = str(Path(__file__).resolve())


class Net(nn.Module):
    """``[B, T, 6]`` → ``[B, T, 2]``."""

    def __init__(self, channels: int, sizes: Any = (1, 2), *, scale: float = 1.0, name: str = "a:b(c)") -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(6, channels), nn.Linear(channels, len(sizes))
        self.scale, self.name = scale, name

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.inside(x).relu()) * self.scale
        return y


class Named(Net):
    """An input that can be given by name alone."""

    def forward(self, x: Tensor, *, weights: Tensor, more: Tensor | None = None) -> Tensor:  # type: ignore[override]
        y = super().forward(x) * weights
        return y if more is None else y + more


class Several(Net):
    """As many inputs as there are."""

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.stack([super(Several, self).forward(x) for x in xs]).mean(0)


class Gap(Net):
    def forward(self, x: Tensor, gain: float = 2.0, shift: Tensor | None = None) -> Tensor:
        y = super().forward(x) * gain
        return y if shift is None else y + shift


class Packed(Net):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["wave"]) * batch["weights"]


class Any_(Net):
    def forward(self, **inputs: Tensor) -> Tensor:
        return super().forward(inputs["wave"]) + inputs["shift"]


READY = Net(5)


def test_arguments_in_brackets() -> None:
    text = f"{HERE}:Net(7, sizes=[1, 2, 3], scale=-2.5, name='x:(y)')"
    captured = load(text, example=["2x9x6"])
    model = Net(7, [1, 2, 3], scale=-2.5)
    assert captured.parameters()["inside.weight"].shape == (7, 6)
    model.load_state_dict(captured.graph_module.state_dict())
    x = torch.randn(2, 9, 6)
    assert torch.equal(captured.graph_module(x), model(x))


@pytest.mark.parametrize("text", ["channels: 7\nscale: 0.5\n", '{"channels": 7}', "- 7\n- [1, 2]\n"])
def test_arguments_in_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(text)
    torch.save(Net(7).state_dict(), tmp_path / "weights.pt")
    options: dict[str, Any] = {"factory_args": tmp_path / "net.yaml", "example": ["2x9x6"]}
    for captured in (
        load(f"{HERE}:Net", **options),
        load(f"{HERE}:Net", weights=tmp_path / "weights.pt", **options),
        load(tmp_path / "weights.pt", factory=f"{HERE}:Net", **options),
    ):
        assert captured.parameters()["inside.weight"].shape == (7, 6)


@pytest.mark.parametrize(
    ("factory", "file", "expected"),
    [
        ("Net", None, "give its arguments as in"),
        ("Net()", None, "give its arguments as in"),
        ("Net(wide=3)", None, "fails with the arguments given: TypeError"),
        ("Net(__import__('os').getcwd())", None, "cannot read the arguments"),
        ("Net(channels)", None, "cannot read the arguments"),
        ("Net(*[1])", None, "cannot read the arguments"),
        ("Net(**{'channels': 1})", None, "cannot read the arguments"),
        ("Net(1)(2)", None, "cannot read the arguments"),
        ("Net(1", None, "cannot read the arguments"),
        ("READY(1)", None, "is a model already"),
        ("Net(1)", "channels: 1", "leave --factory-args"),
        ("Net", "just text", "holds no arguments"),
        ("Net", "a: [1", "is not YAML of plain values"),
        ("Net", "a: !!python/object/apply:os.getcwd []", "is not YAML of plain values"),
        ("Net", "1: 2", "holds no arguments"),
    ],
)
def test_what_cannot_be_called_is_refused(factory: str, file: str | None, expected: str, tmp_path: Path) -> None:
    config = tmp_path / "net.yaml"
    if file is not None:
        config.write_text(file)
    with pytest.raises(LoadError) as error:
        load(f"{HERE}:{factory}", factory_args=None if file is None else config, example=["2x9x6"])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_arguments_that_is_not_there() -> None:
    with pytest.raises(LoadError, match=r"there is no file nowhere\.yaml"):
        load(f"{HERE}:Net", factory_args="nowhere.yaml", example=["2x9x6"])


def run(factory: str, example: list[str], tmp_path: Path) -> tuple[Any, list[str]]:
    """The captured model, and what its inputs are called after it was saved and loaded."""
    captured = load(f"{HERE}:{factory}(8)", example=example)
    captured.save(tmp_path / "m.pt2")
    nodes = load(tmp_path / "m.pt2").graph_module.graph.nodes
    return captured, [node.name for node in nodes if node.op == "placeholder"]


X, W = torch.randn(3, 11, 6), torch.randn(3, 11, 1)


def model_of(kind: type[Net], captured: Any) -> Any:
    model = kind(8).eval()
    model.load_state_dict(captured.graph_module.state_dict())
    return model


def test_an_input_by_name_alone(tmp_path: Path) -> None:
    captured, names = run("Named", ["2x9x6", "weights=2x9x1"], tmp_path)
    assert names == ["x", "weights"]
    assert captured.dynamic == (frozenset({0, 1}), frozenset({0, 1}))
    assert list(captured.parameters()) == list(Named(8).state_dict())
    assert torch.equal(captured.graph_module(X, W), model_of(Named, captured)(X, weights=W))
    assert list(export_onnx(captured, tmp_path / "m.onnx").dynamic) == names


def test_names_in_another_order(tmp_path: Path) -> None:
    captured, names = run("Named", ["weights=2x9x1", "more=2x9x2", "x=2x9x6"], tmp_path)
    assert names == ["x", "weights", "more"]
    more = torch.randn(3, 11, 2)
    assert torch.equal(captured.graph_module(X, W, more), model_of(Named, captured)(X, weights=W, more=more))


def test_an_input_behind_one_with_a_default(tmp_path: Path) -> None:
    captured, names = run("Gap", ["2x9x6", "shift=2x9x1"], tmp_path)
    assert names == ["x", "shift"]
    assert torch.equal(captured.graph_module(X, W), model_of(Gap, captured)(X, shift=W))


def test_a_dictionary(tmp_path: Path) -> None:
    captured, names = run("Packed", ["batch.wave=2x9x6", "batch.weights=2x9x1"], tmp_path)
    assert names == ["batch_wave", "batch_weights"]
    batch = {"wave": X, "weights": W}
    assert torch.equal(captured.graph_module(batch), model_of(Packed, captured)(batch))


def test_any_name(tmp_path: Path) -> None:
    captured, names = run("Any_", ["wave=2x9x6", "shift=2x9x1"], tmp_path)
    assert names == ["wave", "shift"]
    assert torch.equal(captured.graph_module(X, W), model_of(Any_, captured)(wave=X, shift=W))


def test_any_number_of_inputs(tmp_path: Path) -> None:
    captured, names = run("Several", ["2x9x6", "2x9x6"], tmp_path)
    assert names == ["xs_0", "xs_1"]
    assert captured.dynamic == (frozenset({0, 1}), frozenset({0, 1}))
    assert torch.equal(captured.graph_module(X, 2 * X), model_of(Several, captured)(X, 2 * X))


@pytest.mark.parametrize(
    ("factory", "example", "expected"),
    [
        ("Named", ["2x9x6", "gain=2x9x1"], "takes no input 'gain': --example can name more, weights"),
        ("Named", ["2x9x6", "x=2x9x6"], "takes no input 'x' (it has one already, by position)"),
        ("Named", ["weights=2x9x1", "2x9x6"], "put those without first"),
        ("Named", ["2x9x6", "weights=2x9x1", "weights=2x9x1"], "--example weights is given twice"),
        ("Packed", ["batch=2x9x6", "batch.wave=2x9x6"], "--example batch.wave is given twice"),
        ("Named", ["weights=wide"], "cannot read --example weights=wide"),
    ],
)
def test_names_that_are_not_inputs_are_refused(factory: str, example: list[str], expected: str) -> None:
    with pytest.raises(LoadError) as error:
        load(f"{HERE}:{factory}(8)", example=example)
    assert expected in str(error.value)


def test_a_program_takes_names_too(tmp_path: Path) -> None:
    capture(Net(8).eval(), (X,)).save(tmp_path / "m.pt2")
    assert load(tmp_path / "m.pt2", example=["x=2x30x6"]).example_inputs[0].shape == (2, 30, 6)
    with pytest.raises(LoadError, match="takes no input 'y': --example can name x"):
        load(tmp_path / "m.pt2", example=["y=2x30x6"])
