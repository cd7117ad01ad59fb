"""The captured graph is the model: at the example's own sizes they agree, or the capture is refused with the place."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from shrinkspeech.errors import CaptureError
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.compare import max_difference, seeded
from shrinkspeech.loading.load import load
from tests.hostile import program_of


class Net(nn.Module):
    """``[B, T, 8]`` → ``[B, T, 2]``; what happens in between is ``middle``'s business."""

    def __init__(self, middle: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.conv = nn.Linear(8, 12), nn.Linear(12, 6), nn.Conv1d(12, 6, 3, padding=1)
        self.rnn, self.attention = nn.GRU(12, 6, batch_first=True), nn.TransformerEncoderLayer(12, 2, 16)
        self.out, self.middle = nn.Linear(6, 2), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.middle(self, x).float())


X = torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0))


def _apart(model: nn.Module) -> float:
    model.eval()
    return max_difference(seeded(capture(model, (X,)).graph_module, (X,)), seeded(model, (X,)))


# ------------------------------------------------------------------------------------- what torch.export does not see


class Normal(nn.Module):
    """Brings each feature to mean 0, though not while it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        return x if torch.compiler.is_compiling() else x - x.mean(1, keepdim=True)


class Hidden(nn.Module):
    """``[B, T, 8]`` → ``[B, T, 2]``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.normal, self.last = nn.Linear(8, 6), Normal(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.normal(self.first(x))))


def test_branch_on_is_compiling_is_refused() -> None:
    model = Hidden().eval()
    with pytest.raises(CaptureError) as caught:
        capture(model, (X + 1,))
    message = str(caught.value)
    seen = model.last(torch.relu(model.first(X + 1)))
    wanted = max_difference(seen, model(X + 1))
    assert float(re.findall(r"by ([\d.e+-]+) of the largest output", message)[0]) == pytest.approx(wanted, rel=0.06)
    assert "first in normal (Normal)" in message
    assert "torch.compiler.is_compiling()" in message
    assert "\n" not in message


def test_noise_is_no_disagreement() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x) if torch.compiler.is_compiling() else x - torch.randn_like(x)

    assert capture(Noise().eval(), (X,)).graph_module is not None


# ---------------------------------------------------------------------------------------------------------- autocast

HALF = {"device_type": "cpu", "dtype": torch.bfloat16}


def _linear(net: Net, x: Tensor) -> Tensor:
    with torch.autocast(**HALF):
        return torch.relu(net.b(torch.relu(net.a(x))))


def _convolution(net: Net, x: Tensor) -> Tensor:
    with torch.autocast(**HALF):
        return net.conv(net.a(x).transpose(1, 2)).transpose(1, 2)


def _nested(net: Net, x: Tensor) -> Tensor:
    with torch.autocast(**HALF):
        y = net.a(x)
        with torch.autocast("cpu", enabled=False):
            y = y.float() @ net.a.weight
        return net.b(net.a(torch.cat([y[..., :4], y.bfloat16()[..., 4:]], 2)))


def _einsum(net: Net, x: Tensor) -> Tensor:
    with torch.autocast(**HALF):
        return torch.einsum("btc,oc->bto", net.a(x).float(), net.b.weight)


def _attention(net: Net, x: Tensor) -> Tensor:
    with torch.autocast(**HALF):
        return net.b(net.attention(net.a(x)))


def _fixed(net: Net, x: Tensor) -> Tensor:
    return _linear(net, x.view(2, 10, 8))


@pytest.mark.parametrize("middle", [_linear, _convolution, _nested, _einsum, _attention, _fixed])
def test_autocast_keeps_its_casts(middle: Callable[[Net, Tensor], Tensor]) -> None:
    assert _apart(Net(middle)) == 0.0


def _without(net: Net, x: Tensor) -> Tensor:
    return torch.relu(net.b(torch.relu(net.a(x))))


def test_autocast_matters_here() -> None:
    """The casts that are kept change the output by more than what counts as agreement."""
    assert max_difference(seeded(Net(_linear).eval(), (X,)), seeded(Net(_without).eval(), (X,))) > 1e-3


def test_autocast_of_a_saved_program(tmp_path: Path) -> None:
    model = Net(_linear).eval()
    (tmp_path / "m.pt2").write_bytes(program_of(model, X))
    captured = load(tmp_path / "m.pt2")
    assert torch.equal(captured.graph_module(X), model(X))
    captured.save(tmp_path / "again.pt2")
    assert torch.equal(load(tmp_path / "again.pt2").graph_module(X), model(X))


def _recurrent(net: Net, x: Tensor) -> Tensor:
    with torch.autocast(**HALF):
        return net.rnn(net.a(x))[0]


def test_recurrence_under_autocast_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"aten\.gru\.input stands in an autocast region.*enabled=False"):
        capture(Net(_recurrent).eval(), (X,))


# ------------------------------------------------------------------------------------------------- regions without gradients


def _no_grad(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net.rnn(net.a(x))[0]


def test_recurrence_in_a_region_without_gradients(tmp_path: Path) -> None:
    captured = capture(Net(_no_grad).eval(), (X,))
    assert torch.ops.aten.gru.input in {node.target for node in captured.graph_module.graph.nodes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captured.save(tmp_path / "m.pt2")
    assert torch.equal(load(tmp_path / "m.pt2").graph_module(X), captured.graph_module(X))
