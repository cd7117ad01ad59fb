"""Weights in the checkpoints of trainers: found by the model's names and shapes, wherever they are kept."""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from shrinkspeech import capture, load
from shrinkspeech.errors import CaptureError, LoadError
from shrinkspeech.loading.checkpoints import PLACES, PREFIXES

SHAPE = ["2x9x6"]
FACTORY = f"{Path(__file__).resolve()}:Net"
State = dict[str, Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(x))
        return y


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(1)
    return Net().eval()


def behind(prefix: str, state: State) -> State:
    return {prefix + name: x for name, x in state.items()}


def doubled(state: State) -> State:
    return {name: 2 * x for name, x in state.items()}


def within(state: State, place: str) -> State:
    """The names of ``body`` as a wrapper of it has them."""
    return {name.replace("body.", place): x for name, x in state.items()}


LOSS = {"loss.weight": torch.ones(2)}

CHECKPOINTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "beside plain values": (lambda s: {**s, "epoch": 3, "body._extra_state": None}, ""),
    "two levels": (lambda s: {"model": {"state_dict": s, "epoch": 3}, "optimizer": {"state": {0: torch.ones(2)}}}, ""),
    "two wrappers": (
        lambda s: {"state_dict": behind("module.model.", s)},
        "those in 'state_dict' behind 'module.model.'",
    ),
    "a compiled model": (
        lambda s: {"state_dict": behind("model._orig_mod.", s)},
        "those in 'state_dict' behind 'model._orig_mod.'",
    ),
    "another prefix": (lambda s: behind("encoder.", s), "those behind 'encoder.'"),
    "another key": (lambda s: {"ema_state_dict": s}, "those in 'ema_state_dict'"),
    "weights of the loss": (lambda s: {"state_dict": behind("model.", s) | LOSS}, "not the model's: loss.weight"),
    "an average": (lambda s: {"n_averaged": torch.tensor(3), **behind("module.", s)}, "not the model's: n_averaged"),
    "an average beside it": (
        lambda s: {"ema": doubled(s), "model": s},
        "those in 'model'; those in 'ema' would fit too",
    ),
    "teacher and student": (
        lambda s: {**behind("teacher.", doubled(s)), **behind("model.", s)},
        "behind 'teacher.' would fit",
    ),
    "the same twice": (lambda s: {"model": s, "best": dict(s)}, ""),
    "two models": (lambda s: {"discriminator": LOSS, "generator": s}, ""),
    "options and paths": (lambda s: {"args": argparse.Namespace(lr=1, out=Path("x")), "model": s}, ""),
    "a module inside": (lambda s: {"state_dict": s, "tied": None}, ""),
    "weights of the loss, no prefix": (lambda s: {"state_dict": s | LOSS}, "not the model's: loss.weight"),
    "a compiled part": (lambda s: within(s, "body._orig_mod."), ""),
    "a part on several devices": (lambda s: within(s, "body.module."), ""),
    "everything at once": (
        lambda s: {"state_dict": behind("model._orig_mod.", within(s, "body._orig_mod.")) | LOSS},
        "those in 'state_dict' behind 'model._orig_mod.'",
    ),
    "a state beside the tensors": (lambda s: {**s, "body._extra_state": torch.ones(2)}, ""),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_weights_are_found(name: str, net: Net, tmp_path: Path) -> None:
    make, note = CHECKPOINTS[name]
    torch.save(make(net.state_dict()), tmp_path / "model.ckpt")
    captured = load(tmp_path / "model.ckpt", factory=FACTORY, example=SHAPE)
    x = torch.randn(2, 9, 6)
    assert torch.equal(captured.graph_module(x), net(x))
    said = [text for text in captured.notes if not text.startswith("input 0")]
    assert len(said) == bool(note) + (name == "everything at once")
    assert note in "".join(said)
    assert all("loss.weight" in text for text in said[1:])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda s: {"a": s, "b": doubled(s)}, "several sets of weights fit: in 'a', in 'b'"),
        (
            lambda s: behind("teacher.", s) | behind("student.", doubled(s)),
            "several sets of weights fit: behind 'teacher.'",
        ),
        (lambda s: {"model": behind("model.", s) | {"model.more": torch.ones(1)}}, "unexpected more"),
        (
            lambda s: {"state_dict": behind("model.", s) | {"model.head.bias": torch.ones(7)}},
            "misshapen head.bias (7 for 3)",
        ),
        (lambda s: {**s, "more": torch.ones(1)}, "unexpected more"),
        (lambda s: {**s, "body.3.weight": torch.ones(1)}, "unexpected body.3.weight"),
        (lambda s: {**s, "7.weight": torch.ones(1)}, "unexpected 7.weight"),
        (
            lambda s: {"a.body.0.weight": s["body.0.weight"], "b.body.0.weight": s["body.0.weight"]},
            "missing body.0.bias",
        ),
        (lambda s: {"state_dict": behind("other_", s)}, "missing body.0.weight, body.0.bias, head.weight"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[State], Any], expected: str, net: Net, tmp_path: Path) -> None:
    torch.save(make(net.state_dict()), tmp_path / "model.ckpt")
    with pytest.raises(LoadError) as error:
        load(tmp_path / "model.ckpt", factory=FACTORY, example=SHAPE)
    assert expected in str(error.value)
    assert str(tmp_path / "model.ckpt") in str(error.value)


def test_known_places_go_before_others() -> None:
    assert PLACES[0] == PREFIXES[0] == "", "what stands at the top is nobody's copy"


def test_an_archive_of_files(tmp_path: Path) -> None:
    for mode in ("w", "w:gz"):
        with tarfile.open(tmp_path / "model.nemo", mode) as archive:  # type: ignore[call-overload]
            archive.add(__file__, "model.yaml")
        with pytest.raises(LoadError, match=r"is an archive of files, as .nemo files are: unpack it"):
            load(tmp_path / "model.nemo", factory=FACTORY, example=SHAPE)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, compiled, lambda net: compiled(AveragedModel(net))])
def test_wrappers_are_taken_off(wrap: Any, net: Net) -> None:
    captured = capture(wrap(net), (torch.randn(2, 9, 6),))
    assert captured.dynamic == (frozenset({0, 1}),)
    assert captured.parameters().keys() == net.state_dict().keys()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused(net: Net) -> None:
    x = torch.randn(2, 9, 6)
    with pytest.raises(CaptureError, match="give the module that it was made from"):
        capture(torch.jit.trace(net, x), (x,))


class Wrapped(nn.Module):
    """A model inside of another, as trainers have it; ``deep`` puts one more around it."""

    def __init__(self, deep: bool = False) -> None:
        super().__init__()
        self.net = Wrapped() if deep else Net()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


@pytest.mark.parametrize("deep", [False, True])
def test_a_checkpoint_without_the_wrapper(deep: bool, net: Net, tmp_path: Path) -> None:
    torch.save({"state_dict": behind("model.", net.state_dict())}, tmp_path / "model.ckpt")
    factory = f"{Path(__file__).resolve()}:Wrapped(deep={deep})"
    captured = load(tmp_path / "model.ckpt", factory=factory, example=SHAPE)
    x = torch.randn(2, 9, 6)
    assert torch.equal(captured.graph_module(x), net(x))


class Counted(nn.Module):
    """A module that keeps a number beside its tensors, and needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.factor = nn.Linear(6, 3), 1.0

    def get_extra_state(self) -> float:
        return self.factor

    def set_extra_state(self, state: float) -> None:
        if state < 0:
            raise ValueError("no factor")
        self.factor = state

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inside(x) * self.factor
        return y


def test_a_state_beside_the_tensors_that_the_model_has(tmp_path: Path) -> None:
    model, factory, file = Counted().eval(), f"{Path(__file__).resolve()}:Counted", tmp_path / "model.ckpt"
    model.factor = 3.0
    x, state = torch.randn(2, 9, 6), model.state_dict()
    torch.save({"state_dict": behind("model.", state)}, file)
    assert torch.equal(load(file, factory=factory, example=SHAPE).graph_module(x), model(x))
    torch.save({name: value for name, value in state.items() if name != "_extra_state"}, file)
    assert "holds no _extra_state: the model keeps its own" in load(file, factory=factory, example=SHAPE).notes[0]
    torch.save({**state, "_extra_state": -1.0}, file)
    with pytest.raises(LoadError, match=r"refuses what .* holds: .*no factor"):
        load(file, factory=factory, example=SHAPE)


class Normed(nn.Module):
    """A convolution with the weight norm of one of torch's two kinds."""

    def __init__(self, new: bool) -> None:
        super().__init__()
        norm: Any = nn.utils.parametrizations.weight_norm if new else nn.utils.weight_norm
        self.conv = norm(nn.Conv1d(6, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning")
def test_a_weight_norm_of_the_other_kind(new: bool, tmp_path: Path) -> None:
    model = Normed(not new).eval()
    torch.save({"model": behind("net.", model.state_dict())}, tmp_path / "model.ckpt")
    captured = load(
        tmp_path / "model.ckpt", factory=f"{Path(__file__).resolve()}:Normed(new={new})", example=["2x6x20"]
    )
    x = torch.randn(2, 6, 20)
    assert torch.allclose(captured.graph_module(x), model(x), atol=1e-6)


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, compiled])
def test_wrappers_inside_are_taken_off(wrap: Any, net: Net) -> None:
    outer = Net().eval()
    outer.load_state_dict(net.state_dict())
    outer.body = wrap(outer.body)
    captured = capture(outer, (torch.randn(2, 9, 6),))
    assert captured.parameters().keys() == net.state_dict().keys()
    assert type(outer.body) is not nn.Sequential, "the user's model keeps its wrapper"
