"""Views, permutations, concatenation, parts and padding between two layers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from samples import Sample, apply, conv, conv2, linear, randn, tensor

aten = torch.ops.aten
FRAMES, IMAGE = randn(2, 7, 6), randn(2, 1, 8, 9)


def between(
    name: str, middle: Callable[[Tensor], Tensor], targets: Any = (), groups: int = 1, width: int = 12, **options: Any
) -> Sample:
    """Linear 6 → ``width``, the operator, Linear → 2: ``middle`` maps ``[B, T, width]`` to ``[…, out]``."""
    out = middle(torch.zeros(2, 7, width)).shape[-1]
    layers = {"a": linear(6, width), "b": linear(out, 2)}
    targets = targets if isinstance(targets, tuple) else (targets,)
    return Sample(name, apply(lambda m, x: m.b(middle(m.a(x).tanh())), **layers), FRAMES, targets, groups, **options)


def sample(
    name: str, forward: Any, targets: Any, groups: int = 1, inputs: Any = FRAMES, layers: Any = None, **options: Any
) -> Sample:
    targets = targets if isinstance(targets, tuple) else (targets,)
    return Sample(name, apply(forward, **(layers or {})), inputs, targets, groups, **options)


def skip(m: Any, x: Tensor) -> Tensor:
    """U-Net: the skip is concatenated with what comes from below."""
    first = m.a(x).relu()
    second = m.b(first).relu()
    return m.d(torch.cat([m.c(second), first], 1))


def cascade(m: Any, x: Tensor) -> Tensor:
    """Res2Net: each part passes on to the next."""
    parts = list(m.a(x).chunk(4, 1))
    for i in range(1, 4):
        parts[i] = m.b(parts[i] + parts[i - 1])
    return m.c(torch.cat(parts, 1))


def flattened_batch(m: Any, x: Tensor) -> Tensor:
    """Time into the batch and back."""
    batch, time, _ = x.shape
    y = m.a(x).reshape(batch * time, 12)
    return m.b(y).view(batch, time, -1)


def bands(m: Any, x: Tensor) -> Tensor:
    """[B, C, F, T] → [B, T, C·F]."""
    y = m.a(x).relu().permute(0, 3, 1, 2)
    return m.b(y.reshape(y.shape[0], y.shape[1], -1))


def windows(m: Any, x: Tensor) -> Tensor:
    """Frames with a neighbour on each side, stacked on the channels."""
    y = F.pad(m.a(x).tanh().transpose(1, 2), (1, 1)).unfold(2, 3, 1)
    return m.b(y.permute(0, 2, 1, 3).flatten(2))


def created(m: Any, x: Tensor) -> Tensor:
    """Tensors made in the forward pass, as wide as a layer."""
    y = m.a(x)
    y = y + torch.zeros(12) + torch.ones(1, 12) + torch.full((12,), 0.3)
    y = y + y.new_zeros(y.shape[0], 1, 12) + y.new_ones(12) + y.new_full((12,), 0.1)
    gain = torch.where(torch.ones(12) > 0, torch.zeros(12), torch.rand(12)) + torch.empty(12).isnan().float() * 0
    gain = (
        gain + torch.where(y.new_ones(12) > 0, y.new_zeros(12), torch.randn(12)) + y.new_empty(12).isnan().float() * 0
    )
    return m.b((y + gain).tanh())


def counted(m: Any, x: Tensor) -> Tensor:
    """Positions by number: the axis that they run along cannot shrink, the others can."""
    y = m.a(x) + torch.arange(12) + torch.arange(1, 13) + torch.arange(0, 24, 2) + torch.linspace(0, 1, 12)
    return m.c(m.b(y * torch.hann_window(12) * torch.scalar_tensor(2.0)).relu())


def rotary(m: Any, x: Tensor) -> Tensor:
    """Rotate-half with tables over time."""
    y = m.a(x)
    first, second = y[..., :6], y[..., 6:]
    angle = torch.arange(x.shape[1])[:, None] * m.speed
    turned = torch.cat([-second, first], -1)
    y = y * torch.cat([angle.cos(), angle.cos()], -1) + turned * torch.cat([angle.sin(), angle.sin()], -1)
    return m.b(y)


def complex_pair(m: Any, x: Tensor) -> Tensor:
    """Channels that hold a real and an imaginary part."""
    y = torch.view_as_complex(m.a(x).unflatten(-1, (6, 2)))
    return m.b(torch.view_as_real(y * y.conj()).flatten(2))


A = {"a": linear(6, 12), "b": linear(12, 2)}
SAMPLES = [
    between(
        "view",
        lambda y: y.view(2, -1, 3, 4).transpose(2, 3).reshape(2, -1, 12),
        (aten.view.default, aten.reshape.default),
        2,
    ),
    sample("view_batch", flattened_batch, aten.view.default, layers=A),
    between("unsafe_view", lambda y: aten._unsafe_view.default(y, [2, 7, 12]), aten._unsafe_view.default),
    between("flatten", lambda y: y.unflatten(-1, (3, 4)).flatten(2), (aten.unflatten.int, aten.flatten.using_ints), 2),
    between("unflatten_inferred", lambda y: y.unflatten(-1, (-1, 4)).mean(2), aten.unflatten.int, 1),
    between("view_as", lambda y: y.unflatten(-1, (3, 4)).view_as(y), aten.view_as.default),
    between("reshape_as", lambda y: y.transpose(1, 2).reshape_as(y.transpose(1, 2)).mT, aten.reshape_as.default),
    between("permute", lambda y: y.permute(0, 2, 1).permute(0, -1, -2), aten.permute.default),
    between("transpose", lambda y: y.transpose(1, 2).transpose(-1, -2), aten.transpose.int),
    between("swapaxes", lambda y: y.swapaxes(1, 2).swapdims(2, 1), (aten.swapaxes.default, aten.swapdims.default)),
    between("mH", lambda y: y.mH.adjoint(), (aten.mH.default, aten.adjoint.default)),
    between("index_select", lambda y: y.index_select(1, torch.tensor([3, 0])), aten.index_select.default),
    between(
        "index_select_channels",
        lambda y: y.index_select(-1, torch.tensor([3, 0])),
        aten.index_select.default,
        1,
        frozen=("one by one",),
    ),
    between("mT", lambda y: y.mT.mT, aten.mT.default),
    sample(
        "t",
        lambda m, x: x @ m.w.t().t() @ m.v.t() + (m.v.T * 0).sum(),
        (aten.t.default, aten.numpy_T.default),
        layers={"w": tensor(6, 12), "v": tensor(2, 12)},
    ),
    between("movedim", lambda y: y.movedim(1, -1).movedim((0, 1), (0, 2)), (aten.movedim.int, aten.movedim.intlist)),
    between(
        "squeeze",
        lambda y: y.unsqueeze(1).squeeze(1).unsqueeze(-1).squeeze(),
        (aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default),
    ),
    between("cat_twice", lambda y: torch.cat([y, y.abs()], -1), aten.cat.default),
    between("concat", lambda y: torch.concat([y, -y, y], dim=-1), aten.concat.default),
    between("concatenate", lambda y: torch.concatenate([y, -y, y], dim=-1), aten.concatenate.default),
    sample(
        "skip",
        skip,
        aten.cat.default,
        3,
        randn(2, 3, 20),
        {"a": conv(3, 8, padding=1), "b": conv(8, 10, padding=1), "c": conv(10, 6, padding=1), "d": conv(14, 2)},
    ),
    between("split_list", lambda y: y.split([5, 7], -1)[1], operator.getitem, 2),
    between("stack", lambda y: torch.stack([y, y * 2], -1).flatten(2), aten.stack.default),
    between("stack_sum", lambda y: torch.stack([y, y * 2], 0).sum(0), aten.stack.default),
    between("split_sizes", lambda y: torch.cat(y.split([5, 7], -1)[::-1], -1), aten.split_with_sizes.default, 2),
    between("split", lambda y: y.split(6, -1)[0] * y.split(6, -1)[1], aten.split_with_sizes.default),
    between("split_uneven", lambda y: torch.cat(y.split(5, -1), -1), aten.split_with_sizes.default, 3),
    between("chunk", lambda y: y.chunk(2, -1)[0].tanh() * y.chunk(2, -1)[1].sigmoid(), aten.split_with_sizes.default),
    between("split_time", lambda y: torch.cat(y.split(3, 1), 1), aten.split_with_sizes.default),
    between("chunk_time", lambda y: torch.cat(y.chunk(2, 1), 1), aten.chunk.default),
    sample(
        "cascade",
        cascade,
        aten.split_with_sizes.default,
        1,
        randn(2, 3, 20),
        {"a": conv(3, 12), "b": conv(3, 3, padding=1), "c": conv(12, 2)},
    ),
    between("unbind_time", lambda y: torch.stack(y.unbind(0), 0), aten.unbind.int),
    between("unbind_channels", lambda y: torch.stack(y.unflatten(-1, (3, 4)).unbind(2), 2).flatten(2), aten.unbind.int),
    between("select", lambda y: y[:, -1] + y[:, 0], aten.select.int),
    between("select_channel", lambda y: y.unflatten(-1, (3, 4))[:, :, 1], aten.select.int, frozen=("one by one",)),
    between("slice", lambda y: torch.cat([y[..., 3:8], y[..., :3]], -1), aten.slice.Tensor, 2),
    between("slice_from_the_end", lambda y: y[..., -5:] * y[..., :5], aten.slice.Tensor),
    between("slice_without_an_end", lambda y: aten.slice.Tensor(y, 2, 3), aten.slice.Tensor),
    between("slice_step", lambda y: y[..., ::2], aten.slice.Tensor, 0, frozen=("cannot be followed",)),
    between("slice_time", lambda y: y[:, 1:] - y[:, :-1], aten.slice.Tensor),
    between("slice_whole", lambda y: y[..., :12], ()),
    between("narrow", lambda y: y.narrow(-1, 2, 5) + y.narrow(-1, 7, 5), aten.narrow.default),
    sample(
        "expand",
        lambda m, x: m.b(m.a(x) * m.gain.expand(2, 7, 12)),
        aten.expand.default,
        layers=A | {"gain": tensor(1, 1, 12)},
        inputs=FRAMES,
    ),
    between("expand_grown", lambda y: y.mean(-1, keepdim=True).expand(-1, -1, 12) - y, aten.expand.default),
    between("broadcast_to", lambda y: y.mean(1, keepdim=True).broadcast_to(y.shape), aten.broadcast_to.default),
    between("expand_as", lambda y: y.mean(1, keepdim=True).expand_as(y) * y, aten.expand_as.default),
    between("size_one", lambda y: y * y.mean(-1, keepdim=True) + y[..., :1], (), 1),
    between("repeat", lambda y: y.repeat(1, 1, 2), aten.repeat.default),
    between("repeat_new", lambda y: y.unsqueeze(2).repeat(1, 1, 3, 1).flatten(2), aten.repeat.default, 2),
    between("repeat_one", lambda y: y * y.mean(-1, keepdim=True).repeat(1, 1, 12), aten.repeat.default),
    between("tile", lambda y: y.tile(1, 1, 2), aten.tile.default),
    between("repeat_interleave", lambda y: y.repeat_interleave(2, -1), aten.repeat_interleave.self_int),
    between("repeat_interleave_time", lambda y: y.repeat_interleave(2, dim=1), aten.repeat_interleave.self_int),
    between("pad_time", lambda y: F.pad(y, (0, 0, 2, 1)), aten.pad.default),
    between("pad_channels", lambda y: F.pad(y, (2, 1)), aten.pad.default),
    between("pad_value", lambda y: F.pad(y, (2, 1), value=0.5), aten.pad.default),
    between("pad_reflect", lambda y: F.pad(y.mT, (2, 1), mode="reflect").mT, aten.pad.default),
    between("pad_cut", lambda y: F.pad(y, (-2, 0)), aten.pad.default, 0, frozen=("mirrors or cuts",)),
    between("constant_pad_nd", lambda y: aten.constant_pad_nd.default(y, [1, 1], 0.0), aten.constant_pad_nd.default),
    between("flip_time", lambda y: y.flip(1), aten.flip.default),
    between("flip_channels", lambda y: y.flip(-1), aten.flip.default, 0, frozen=("reorders",)),
    between("roll", lambda y: y.roll(1, 1), aten.roll.default),
    between("roll_flat", lambda y: y.roll(1), aten.roll.default, 0, frozen=("reorders",)),
    sample("bands", bands, aten.permute.default, 1, IMAGE, {"a": conv2(1, 5), "b": linear(30, 2)}),
    sample("windows", windows, aten.unfold.default, 1, layers={"a": linear(6, 12), "b": linear(36, 2)}),
    sample(
        "im2col",
        lambda m, x: m.b(F.unfold(m.a(x), (3, 3)).mT),
        aten.im2col.default,
        1,
        IMAGE,
        {"a": conv2(1, 5), "b": linear(45, 2)},
    ),
    sample(
        "created",
        created,
        (
            aten.zeros.default,
            aten.ones.default,
            aten.full.default,
            aten.rand.default,
            aten.randn.default,
            aten.empty.memory_format,
            aten.new_zeros.default,
            aten.new_ones.default,
            aten.new_full.default,
            aten.new_empty.default,
        ),
        layers=A,
    ),
    sample(
        "counted",
        counted,
        (
            aten.arange.default,
            aten.arange.start,
            aten.arange.start_step,
            aten.linspace.default,
            aten.hann_window.default,
            aten.scalar_tensor.default,
        ),
        layers={"a": linear(6, 12), "b": linear(12, 9), "c": linear(9, 2)},
        frozen=("counts positions",),
    ),
    sample("rotary", rotary, aten.cat.default, layers=A | {"speed": tensor(6)}),
    sample("complex_pair", complex_pair, (aten.view_as_complex.default, aten.view_as_real.default), layers=A),
]
