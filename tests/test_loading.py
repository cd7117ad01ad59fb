"""Loading: every kind of file is recognised by its content, and every bad one is refused in one sentence."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shrinkspeech.errors import InputError, LoadError
from shrinkspeech.loading.examples import example_shape, seconds_of
from shrinkspeech.loading.load import is_program, load


class Net(nn.Module):
    """``[B, samples]`` → ``[B, samples]``."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.inside = nn.Conv1d(1, channels, 5, padding=2)
        self.out = nn.Conv1d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.inside(x.unsqueeze(1)))).squeeze(1)


class Features(nn.Module):
    """``[B, T, 10]`` and lengths ``[B]`` → ``[B, T, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.linear(x) * (lengths[:, None, None] + 1)


def wide() -> nn.Module:
    return Net(6)


def other() -> nn.Module:
    return nn.Linear(3, 3)


def fails() -> nn.Module:
    raise RuntimeError("no configuration")


def number() -> int:
    return 3


HERE = "tests/test_loading.py"
FACTORY = f"{Path(__file__).resolve()}:Net"
SHAPE = ["2x800"]


@pytest.fixture(scope="module")
def program() -> bytes:
    """A ``.pt2`` of ``Net``."""
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(Net().eval(), (torch.randn(2, 800),), dynamic_shapes=({0: auto, 1: auto},))
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


@pytest.fixture
def pt2(program: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "any.name"
    path.write_bytes(program)
    return path


def _refused(*args: Any, **kwargs: Any) -> str:
    """The message of a refused load: one line, whatever went wrong inside."""
    with pytest.raises(LoadError) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------- what can be loaded


def test_program_brings_its_example(pt2: Path) -> None:
    captured = load(pt2)
    assert captured.example_inputs[0].shape == (2, 800)
    assert is_program(pt2)
    assert load(pt2, example=["3x600"]).example_inputs[0].shape == (3, 600)


def _zipped(weights: dict[str, Tensor], path: Path) -> None:
    torch.save(weights, path)


def _legacy(weights: dict[str, Tensor], path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def _checkpoint(weights: dict[str, Tensor], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": weights}, path)


def _wrapped(weights: dict[str, Tensor], path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in weights.items()}, path)


@pytest.mark.parametrize("save", [save_file, _zipped, _legacy, _checkpoint, _wrapped])
@pytest.mark.parametrize("by_path", [True, False])
def test_weights_and_factory(save: Callable[..., None], by_path: bool, tmp_path: Path) -> None:
    original = Net().eval()
    path = tmp_path / "weights"
    save(original.state_dict(), path)
    arguments: dict[str, Any] = {"factory": FACTORY} if by_path else {"weights": path}
    captured = load(path if by_path else FACTORY, example=SHAPE, **arguments)
    x = torch.randn(2, 500)
    torch.testing.assert_close(captured.graph_module(x), original(x))


def test_factory_without_weights_is_noted() -> None:
    assert "no --weights" in load(FACTORY, example=SHAPE).notes[0]


def test_factory_by_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "userpackage").mkdir()
    (tmp_path / "userpackage" / "model.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(4, 4)\n")
    monkeypatch.chdir(tmp_path)
    assert load("userpackage.model:make", example=["2x4"]).example_inputs[0].shape == (2, 4)


def test_trusted_module(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "model.pt")
    assert load(tmp_path / "model.pt", trust_pickle=True, example=SHAPE).graph_module is not None


# ---------------------------------------------------------------------------------------------- what is refused


def test_no_such_file() -> None:
    assert _refused("nowhere.pt").startswith("there is no file nowhere.pt")


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").touch()
    assert str(tmp_path / "model.pt2") in _refused(tmp_path)


def test_pickle_without_trust(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "model.pt")
    message = _refused(tmp_path / "model.pt")
    for part in ("Net", "unpickling runs", ".pt2", "--factory", "--trust-pickle"):
        assert part in message


def test_state_dict_without_factory(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "model.pt")
    assert "--factory package.module:function" in _refused(tmp_path / "model.pt", example=SHAPE)


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("nowhere:make", "does not import: ModuleNotFoundError: No module named 'nowhere'"),
        ("nowhere.py:make", "there is no file nowhere.py"),
        ("torch.nn:Lnear", "torch.nn has no 'Lnear'"),
        ("torch nn", "write package.module:function"),
        (f"{HERE}:fails", "RuntimeError: no configuration (test_loading.py:"),
        (f"{HERE}:number", "returns int"),
        (f"{HERE}:HERE", "is of type str"),
    ],
)
def test_bad_factory(factory: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    torch.save(Net().state_dict(), tmp_path / "model.pt")
    assert expected in _refused(tmp_path / "model.pt", factory=factory, example=SHAPE)


@pytest.mark.parametrize(
    ("factory", "parts"),
    [
        ("wide", ["misshapen inside.weight (4x1x5 for 6x1x5), inside.bias (4 for 6), out.weight (1x4x1 for 1x6x1)"]),
        ("other", ["missing weight, bias", "unexpected inside.weight, inside.bias, out.weight and 1 more"]),
    ],
)
def test_weights_that_do_not_match(factory: str, parts: list[str], tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "model.pt")
    message = _refused(tmp_path / "model.pt", factory=f"{Path(__file__).resolve()}:{factory}", example=SHAPE)
    assert all(part in message for part in parts)


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"hello, this is no model", "not a model file of a known kind"),
        (b"PK\x03\x04 and then nothing", "damaged or cut off"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all", "damaged or cut off"),
        (b"\x80\x02\x8a\nl\xfc", "damaged or cut off"),
        (b"\x08\x0a\x12\x07pytorch", "give the torch model"),
    ],
)
def test_files_that_are_no_models(content: bytes, expected: str, tmp_path: Path) -> None:
    assert expected in _refused(_file(tmp_path / "model", content))


def test_cut_off_program(program: bytes, tmp_path: Path) -> None:
    assert "damaged or cut off" in _refused(_file(tmp_path / "model.pt2", program[: len(program) // 2]))


def test_cut_off_legacy_weights(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Net().state_dict(), buffer, _use_new_zipfile_serialization=False)
    assert "damaged or cut off" in _refused(_file(tmp_path / "model.pt", buffer.getvalue()[:150]))


def test_other_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        archive.writestr("x.npy", b"")
    assert "without a model" in _refused(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "names.pt", "w") as archive:
        archive.writestr("é", b"")
    no_text = (tmp_path / "names.pt").read_bytes().replace("é".encode(), b"\xff\xff")
    assert "damaged or cut off" in _refused(_file(tmp_path / "names.pt", no_text))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"")
    assert "TorchScript" in _refused(tmp_path / "script.pt")


def test_python_file(tmp_path: Path) -> None:
    assert "model.py:function" in _refused(_file(tmp_path / "model.py", b"import torch\n"))


def test_checkpoint_without_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "model.pt")
    assert "no weights but epoch" in _refused(tmp_path / "model.pt", factory=FACTORY)


def test_class_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(Net(), tmp_path / "model.pt")
    monkeypatch.delattr(__import__(Net.__module__, fromlist=["Net"]), "Net")
    assert "needs the code of its model" in _refused(tmp_path / "model.pt", trust_pickle=True, example=SHAPE)


def test_options_that_do_not_go_together(pt2: Path, tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "model.pt")
    assert "leave --factory" in _refused(pt2, factory=FACTORY)
    assert "leave --factory out" in _refused(FACTORY, factory=FACTORY)
    assert "leave --weights out" in _refused(tmp_path / "model.pt", factory=FACTORY, weights=tmp_path / "model.pt")


def test_example_is_needed() -> None:
    assert "--example 2x16000" in _refused(FACTORY)


@pytest.mark.parametrize("text", ["2y800", "2x0", "x", "2x800:complex64", ""])
def test_bad_example(text: str) -> None:
    assert "--example" in _refused(FACTORY, example=[text])


def test_example_that_does_not_fit(pt2: Path) -> None:
    assert "does not run on example inputs of 2x3x800" in _refused(FACTORY, example=["2x3x800"])
    assert "does not run on example inputs of 2x3x800" in _refused(pt2, example=["2x3x800"])


# --------------------------------------------------------------------------------------------------- examples


def test_examples_are_small_and_always_the_same() -> None:
    one, two = (load(FACTORY, example=SHAPE).example_inputs[0] for _ in range(2))
    assert torch.equal(one, two)
    assert 0 < float(one.abs().max()) < 0.1
    assert example_shape("2:int64") == ((2,), torch.int64)


def test_seconds_of_waveform_and_features(pt2: Path) -> None:
    captured = load(pt2)
    assert seconds_of(captured) == 800 / 16_000
    assert seconds_of(captured, sample_rate=8_000) == 0.1
    assert seconds_of(captured, 2.5) == 2.5
    features = load(f"{Path(__file__).resolve()}:Features", example=["2x50x10", "2:int64"])
    with pytest.raises(InputError, match="--seconds"):
        seconds_of(features)
    with pytest.raises(InputError, match="above zero"):
        seconds_of(captured, 0.0)
