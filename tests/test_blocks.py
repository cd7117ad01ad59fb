"""Small speech blocks on which structured pruning tools commonly go wrong: each shrinks, runs, and keeps both laws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from laws import check_laws
from torch import Tensor, nn
from torch.nn import functional as F

from shrinkspeech.budget.flops import Flops
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.widths import repair, uniform
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.flops import flops
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.slice import slice as slice_graph


class Recurrent(nn.Module):
    """Linear → recurrent layer → Linear, [B, T, 10] → [B, T, 4]."""

    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, both: bool = False) -> None:
        super().__init__()
        self.enter = nn.Linear(10, 16)
        self.rnn = kind(16, 12, layers, batch_first=True, bidirectional=both)
        self.leave = nn.Linear(24 if both else 12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.rnn(F.relu(self.enter(x)))[0])


class Normed(nn.Module):
    """Two weight-normed convolutions, by the old or the new interface."""

    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.a, self.b = norm(nn.Conv1d(10, 16, 3)), norm(nn.Conv1d(16, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.leaky_relu(self.a(x), 0.1))


class Attention(nn.Module):
    """A transformer layer: multi-head attention and feed-forward, pre-norm, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(10, 16), nn.Linear(16, 4)
        self.attend, self.wide, self.narrow = (
            nn.MultiheadAttention(16, 4, batch_first=True),
            nn.Linear(16, 24),
            nn.Linear(24, 16),
        )
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        z = self.norm1(y)
        y = y + self.attend(z, z, z, need_weights=False)[0]
        return self.leave(y + self.narrow(F.gelu(self.wide(self.norm2(y)))))


class Depthwise(nn.Module):
    """Depthwise convolution, group norm over all channels, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv1d(10, 16, 1), nn.Conv1d(16, 4, 1)
        self.depth, self.norm, self.point = (
            nn.Conv1d(16, 16, 3, padding=1, groups=16),
            nn.GroupNorm(1, 16),
            nn.Conv1d(16, 16, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        return self.leave(F.relu(y + self.point(self.norm(self.depth(y)))))


class Crn(nn.Module):
    """Convolutions, a GRU over channels × bands, deconvolutions with skips by concatenation: [B, 1, T, 17]."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 8, (1, 3), (1, 2)), nn.Conv2d(8, 12, (1, 3), (1, 2))
        self.rnn, self.mix = nn.GRU(12 * 3, 20, batch_first=True), nn.Linear(20, 12 * 3)
        self.up2, self.up1 = (
            nn.ConvTranspose2d(24, 8, (1, 3), (1, 2), output_padding=(0, 1)),
            nn.ConvTranspose2d(16, 1, (1, 3), (1, 2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        a = F.elu(self.down1(x))
        b = F.elu(self.down2(a))
        batch, channels, time, bands = b.shape
        y, _ = self.rnn(b.permute(0, 2, 1, 3).reshape(batch, time, channels * bands))
        y = self.mix(y).reshape(batch, time, channels, bands).permute(0, 2, 1, 3)
        y = F.elu(self.up2(torch.cat([y, b], 1)))
        return self.up1(torch.cat([y, a], 1))


class TasNet(nn.Module):
    """A learnt filterbank, two masks, the filterbank's transpose: [B, 1, T] → [B, 2, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, 16, 8, 4, bias=False), nn.ConvTranspose1d(16, 1, 8, 4, bias=False)
        self.enter, self.masks = nn.Conv1d(16, 12, 1), nn.Conv1d(12, 32, 1)

    def forward(self, wave: Tensor) -> Tensor:
        feature = F.relu(self.encode(wave))
        masks = torch.sigmoid(self.masks(F.relu(self.enter(feature)))).view(wave.shape[0], 2, 16, -1)
        parts = [self.decode(feature * masks[:, speaker]) for speaker in range(2)]
        return torch.cat(parts, 1)


class Tcn(nn.Module):
    """Dilated convolutions with batch norm, causal padding and residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv1d(10, 16, 1), nn.Conv1d(16, 4, 1)
        self.convs = nn.ModuleList(nn.Conv1d(16, 16, 3, dilation=2**i) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = x + F.relu(norm(conv(F.pad(x, (2 * 2**i, 0)))))
        return self.leave(x)


class Concatenated(nn.Module):
    """Dense connections."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(10, 12, 3, padding=1), nn.Conv1d(12, 8, 3, padding=1), nn.Conv1d(20, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        return self.c(torch.cat([a, F.relu(self.b(a))], 1))


class WaveNet(nn.Module):
    """One convolution for both halves of the gate; residual and skip from one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv1d(10, 16, 1), nn.Conv1d(12, 4, 1)
        self.convs = nn.ModuleList(nn.Conv1d(16, 32, 3, padding=1) for _ in range(2))
        self.outs = nn.ModuleList(nn.Conv1d(16, 28, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.enter(x), torch.zeros(())
        for conv, out in zip(self.convs, self.outs, strict=True):
            a, b = conv(x).chunk(2, 1)
            residual, skip = out(torch.tanh(a) * torch.sigmoid(b)).split([16, 12], 1)
            x, total = x + residual, total + skip
        return self.leave(F.relu(total))


class Glu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(10, 32, 3), nn.Conv1d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.glu(self.a(x), 1))


FRAMES, BANDS = (2, 20, 10), (2, 10, 20)
BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "lstm": (lambda: Recurrent(nn.LSTM), FRAMES, 2),
    "gru": (lambda: Recurrent(nn.GRU), FRAMES, 2),
    "two_layer_bilstm": (lambda: Recurrent(nn.LSTM, 2, True), FRAMES, 5),
    "glu": (Glu, BANDS, 1),
    "weight_norm": (lambda: Normed(nn.utils.parametrizations.weight_norm), BANDS, 1),
    "weight_norm_old": (lambda: Normed(nn.utils.weight_norm), BANDS, 1),
    "attention_and_ffn": (Attention, FRAMES, 4),
    "depthwise_group_norm": (Depthwise, BANDS, 1),
    "crn": (Crn, (2, 1, 9, 17), 5),
    "tas_net": (TasNet, (2, 1, 64), 2),
    "tcn": (Tcn, BANDS, 1),
    "concat": (Concatenated, BANDS, 2),
    "wave_net": (WaveNet, BANDS, 5),
}
"""For each block its factory, the shape of its input, and how many groups may shrink in it."""


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_block_keeps_the_laws(name: str) -> None:
    torch.manual_seed(0)
    make, shape, groups = BLOCKS[name]
    model, x = make().eval(), torch.randn(shape)
    captured = capture(model, (x,))
    assert max_difference(captured.graph_module(x), model(x)) <= 1e-6
    checked = check_laws(captured)
    assert checked.shrinkable == groups
    assert not checked.groups.unknown


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_block_meets_half_the_budget(name: str) -> None:
    """Sizes are small here, so a single unit may be several per cent of the budget."""
    torch.manual_seed(0)
    make, shape, _ = BLOCKS[name]
    captured = capture(make(), (torch.randn(shape),))
    groups = label(captured)
    cost = count(captured, groups)
    target = 0.5 * cost.original
    goal = Goal.whole(Flops, captured, groups)
    widths = repair({key: float(value) for key, value in uniform(goal, target).items()}, goal, target)
    small = flops(slice_graph(captured, groups, widths))
    assert small == pytest.approx(cost.at(widths), rel=1e-12)
    assert 0.85 * target <= small <= target
