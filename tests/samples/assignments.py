"""Assignments: into tensors made for them, into parts, under masks and to numbered places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from samples import Sample, linear
from samples.shapes import FRAMES, between, sample

aten = torch.ops.aten
A = {"a": linear(6, 12), "b": linear(12, 2)}


def preallocated(m: Any, x: Tensor) -> Tensor:
    """The whole of a tensor of zeros, and then of one of more axes."""
    out = torch.zeros(x.shape[0], x.shape[1], 12)
    out[0 : x.shape[0]] = m.a(x).tanh()
    wide = torch.empty(3, x.shape[0], x.shape[1], 12).copy_(out)
    wide = wide * torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1, 1)
    return m.b(wide.sum(0) + out)


def in_parts(m: Any, x: Tensor) -> Tensor:
    """Frame by frame, and beside something that another layer has made."""
    out = torch.zeros(x.shape[0], 4, 12)
    for t in range(4):
        out[:, t] = m.a(x[:, t])
    return m.b(torch.cat([out, m.a(x)], 1).tanh())


def put(write: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    def middle(y: Tensor) -> Tensor:
        z = y.clone()
        write(z)
        return z * 2

    return middle


def under(z: Tensor) -> None:
    z[z < 0.1] = 0.5


def frames_under(z: Tensor) -> None:
    z[torch.arange(z.shape[0] * z.shape[1]).view(z.shape[0], z.shape[1]) % 3 == 0] = -0.25


def numbered(z: Tensor) -> None:
    z[:, torch.tensor([0, 3])] = 0.75


def numbered_with_features(z: Tensor) -> None:
    z[:, torch.tensor([0, 3])] = z[:, 1:3] * 2


def two_numbers(z: Tensor) -> None:
    z[torch.tensor([0, 1]), torch.tensor([3, 0])] = z[:, 1] - 1


def numbered_channels(z: Tensor) -> None:
    z[..., torch.tensor([0, 3])] = 0.75


def masked_values(z: Tensor) -> None:
    z[:, torch.tensor([True, False, True, False, False, False, False])] = z[:, :2] * 3


def seen(write: Callable[[Tensor], Any]) -> Callable[[Any, Tensor], Tensor]:
    """The tensor is read again through a view, so that the assignment stays in place."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        view = y.transpose(1, 2)
        write(y)
        return m.b(view.transpose(1, 2))

    return forward


SAMPLES: list[Sample] = [
    sample("preallocated", preallocated, (aten.clone.default, aten.expand_as.default), 1, FRAMES, A),
    sample("in_parts", in_parts, aten.copy_.default, 1, FRAMES, A),
    between("put_under", put(under), aten.where.self),
    between("put_frames_under", put(frames_under), (aten.where.self, aten.unsqueeze.default)),
    between("put_numbered", put(numbered), aten.index_put_.default),
    between("put_numbered_with_features", put(numbered_with_features), aten.index_put_.default),
    between("put_two_numbers", put(two_numbers), aten.index_put.default),
    between("put_numbered_channels", put(numbered_channels), aten.index_put.default, 0, frozen=("one by one",)),
    between("put_masked_values", put(masked_values), aten.index_put_.default),
    sample("put_in_place", seen(numbered), aten.index_put_.default, 1, FRAMES, A),
    sample("put_in_place_under", seen(under), aten.index_put_.default, 0, FRAMES, A, frozen=("one by one",)),
    between("select_scatter", lambda y: torch.select_scatter(y, y[:, 0] * 2, 1, 3), aten.select_scatter.default),
    between(
        "select_scatter_channel",
        lambda y: torch.select_scatter(y, y[..., 0] * 2, 2, 3),
        aten.select_scatter.default,
        0,
        frozen=("one by one",),
    ),
    between("slice_scatter", lambda y: torch.slice_scatter(y, y[:, :2] * 2, 1, 3, 5), aten.slice_scatter.default),
    between("slice_scatter_from_end", lambda y: torch.slice_scatter(y, y[:, :2], 1, -2), aten.slice_scatter.default),
    between("slice_scatter_whole", lambda y: torch.slice_scatter(y, y * 2, 2, 0, 12), aten.slice_scatter.default),
    between(
        "slice_scatter_channels",
        lambda y: torch.slice_scatter(y, y[..., :4].relu(), 2, 3, 7),
        aten.slice_scatter.default,
    ),
    between(
        "slice_scatter_steps",
        lambda y: torch.slice_scatter(y, y[..., :6].relu(), 2, 0, 12, 2),
        aten.slice_scatter.default,
        0,
        frozen=("cannot be followed",),
    ),
]
