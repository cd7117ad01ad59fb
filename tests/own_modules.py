"""Small models of every layer that can be put back into its owner's own module, and of what cannot."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolutions(nn.Module):
    """``[B, 6, T]``: groups, channels of their own, transposed, with every norm; ``share`` ties two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(6, 16, 3, padding=1), nn.BatchNorm1d(16)
        self.c = nn.Conv1d(16, 16, 3, padding=1, groups=16)
        self.d, self.e = nn.GroupNorm(4, 16), nn.Conv1d(16, 24, 3, padding=1, groups=4)
        self.f, self.g = nn.PReLU(24), nn.ConvTranspose1d(24, 12, 4, stride=2, padding=1, groups=2)
        self.h, self.i, self.j = nn.LayerNorm(12), nn.GroupNorm(1, 12, affine=False), nn.Conv1d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.d(self.c(self.b(self.a(x)).relu()))
        y = self.g(self.f(self.e(y)))
        z: Tensor = self.j(self.i(self.h(y.transpose(1, 2)).transpose(1, 2)))
        return z


class Flat(nn.Module):
    """``[B, 1, 8, T]``: two dimensions, instance norm, and norms without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True)
        self.c, self.d = nn.Linear(12 * 8, 20), nn.LayerNorm(20, elementwise_affine=False)
        self.e, self.f = nn.Linear(20, 20, bias=False), nn.RMSNorm(20)
        self.g = nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x)).relu().flatten(1, 2).transpose(1, 2)
        z: Tensor = self.g(self.f(self.e(self.d(self.c(y))).relu()))
        return z


class Recurrent(nn.Module):
    """``[B, T, 6]``: one layer of each kind, and one of two directions and layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.GRU(6, 12, batch_first=True), nn.LSTM(12, 10, batch_first=True, bidirectional=True)
        self.c, self.d = nn.RNN(20, 8, batch_first=True, num_layers=2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.d(self.c(self.b(self.a(x)[0])[0])[0])
        return y


class Cells(nn.Module):
    """``[B, 6]``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.GRUCell(6, 12), nn.LSTMCell(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(self.b(self.a(x))[0])
        return y


class Attention(nn.Module):
    """``[B, T, 6]``: torch's own, packed and with keys of another width; an embedding; a parameter of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.b = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.c = nn.MultiheadAttention(16, 2, kdim=6, vdim=6, batch_first=True)
        self.d, self.e = nn.Embedding(50, 16), nn.Linear(16, 3)
        self.shift = nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        y = self.b(self.a(x) + self.d(places) + self.shift)
        z: Tensor = self.e(y + self.c(y, x, x, need_weights=False)[0])
        return z


class OwnAttention(nn.Module):
    """As people write it, with a scale that it keeps; values may be narrower than keys."""

    def __init__(self, size: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = heads, size // heads, (size // heads) ** -0.5
        self.o, self.q, self.k, self.v = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = (
            f(x).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        y = ((q @ k.transpose(2, 3)) * self.scale).softmax(-1) @ v
        z: Tensor = self.o(y.transpose(1, 2).reshape(batch, time, -1))
        return z


class OwnTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), OwnAttention(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z: Tensor = self.c(y + self.b(y))
        return z


class Tied(nn.Module):
    """Two layers with one weight, a weight norm of each kind, and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 12)
        self.c, self.d = nn.Linear(12, 12), nn.utils.parametrizations.weight_norm(nn.Conv1d(12, 8, 3, padding=1))
        self.c.weight = self.b.weight
        self.e = nn.Linear(8, 3)

    def forward(self, x: Tensor, *, gain: Tensor) -> Tensor:
        y = self.c(self.b(self.a(x)).relu())
        z: Tensor = self.e(self.d(y.transpose(1, 2)).transpose(1, 2)) * gain
        return z


class Written(nn.Module):
    """A width that stands in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.inside = nn.Linear(6, 16), nn.Sequential(nn.Unflatten(-1, (4, 4)), nn.Flatten(-2))
        self.b = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.inside(self.a(x)))
        return y


class Scaled(nn.Module):
    """A number in the code that follows from a width."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z: Tensor = self.b(y / self.a.out_features)
        return z
