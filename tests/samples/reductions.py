"""Sums, means, extremes, norms, softmax and pooling over channels and over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samples import Sample, apply, conv, conv2, linear, randn, tensor
from samples.shapes import between, sample

aten = torch.ops.aten
FRAMES, SOUND, IMAGE = randn(2, 7, 6), randn(2, 3, 24), randn(2, 2, 12, 14)


def squeeze_excite(m: Any, x: Tensor) -> Tensor:
    y = m.a(x).relu()
    scale = m.up(m.down(y.mean(-1)).relu()).sigmoid()
    return m.b(y * scale.unsqueeze(-1))


def statistics(m: Any, x: Tensor) -> Tensor:
    """Attentive statistics pooling: one label three times in one axis."""
    y = m.a(x).relu()
    context = torch.cat([y, y.mean(-1, keepdim=True).expand_as(y), y.std(-1, keepdim=True).expand_as(y)], 1)
    weight = m.score(m.hidden(context).tanh()).softmax(-1)
    mean = (y * weight).sum(-1)
    spread = ((y.square() * weight).sum(-1) - mean.square()).clamp(min=1e-4).sqrt()
    return m.out(torch.cat([mean, spread], 1))


def normed(
    name: str, norm: Any, targets: Any, width: int = 12, inputs: Any = SOUND, groups: int = 1, **options: Any
) -> Sample:
    """Convolution, norm, nonlinearity, convolution."""
    make = conv if len(inputs()[0].shape) == 3 else conv2
    layers = {"a": make(inputs()[0].shape[1], width), "norm": norm, "b": make(width, 2)}
    return sample(name, lambda m, x: m.b(m.norm(m.a(x)).relu()), targets, groups, inputs, layers, **options)


def shifted(layer: nn.Module) -> nn.Module:
    """A norm with parameters and statistics that are not those of a new one."""
    for tensor_ in (*layer.parameters(), *layer.buffers()):
        if tensor_.is_floating_point():
            tensor_.data = torch.rand_like(tensor_) + 0.5
    return layer


def layer_normed(name: str, norm: Any, targets: Any, groups: int = 1) -> Sample:
    return sample(
        name,
        lambda m, x: m.b(m.norm(m.a(x).tanh())),
        targets,
        groups,
        FRAMES,
        {"a": linear(6, 12), "norm": norm, "b": linear(12, 2)},
    )


def pooled(name: str, pool: Any, targets: Any, inputs: Any = SOUND) -> Sample:
    make = conv if len(inputs()[0].shape) == 3 else conv2
    layers = {"a": make(inputs()[0].shape[1], 8), "b": make(8, 2, 1)}
    return sample(name, lambda m, x: m.b(pool(m.a(x).relu())), targets, 1, inputs, layers)


def across(name: str, norm: Any, target: Any, groups: int = 2, **options: Any) -> Sample:
    """A norm over images ``[B, C, T, F]`` whose last axis is a layer's, too."""
    layers = {"f": linear(6, 8), "c": conv2(1, 6, (3, 1)), "n": norm, "g": linear(8, 3), "o": conv2(6, 2, 1)}
    return sample(
        name, lambda m, x: m.o(m.g(m.n(m.c(m.f(x).relu().unsqueeze(1))))), target, groups, FRAMES, layers, **options
    )


def both(name: str, reduce: Any, *targets: Any) -> list[Sample]:
    """A reduction over time, over channels (which then scales them), and over both."""
    return [
        between(f"{name}_time", lambda y: reduce(y, 1, False), targets[0]),
        between(f"{name}_channels", lambda y: y * reduce(y, -1, True), targets[0]),
        between(f"{name}_both", lambda y: y * reduce(y, (1, 2), True), targets[0]),
    ]


def lone(y: Tensor, *operators: Any) -> Tensor:
    """Each operator over everything that there is, added to the input."""
    for operator in operators:
        y = y + operator(y)
    return y


SAMPLES = [
    *both("sum", lambda y, dim, keep: y.sum(dim, keepdim=keep), aten.sum.dim_IntList),
    *both("mean", lambda y, dim, keep: y.mean(dim, keepdim=keep), aten.mean.dim),
    *both("amax", lambda y, dim, keep: y.amax(dim, keepdim=keep), aten.amax.default),
    *both("amin", lambda y, dim, keep: y.amin(dim, keepdim=keep), aten.amin.default),
    *both("logsumexp", lambda y, dim, keep: y.logsumexp(dim, keepdim=keep), aten.logsumexp.default),
    *both("var", lambda y, dim, keep: y.var(dim, correction=0, keepdim=keep), aten.var.correction),
    *both("std", lambda y, dim, keep: y.std(dim, correction=0, keepdim=keep), aten.std.correction),
    *both("var_unbiased", lambda y, dim, keep: y.var(dim, correction=1, keepdim=keep), aten.var.correction),
    *both("std_unbiased", lambda y, dim, keep: y.std(dim, correction=1, keepdim=keep), aten.std.correction),
    *both(
        "vector_norm", lambda y, dim, keep: torch.linalg.vector_norm(y, 2, dim, keep), aten.linalg_vector_norm.default
    ),
    *both(
        "norm",
        lambda y, dim, keep: aten.norm.ScalarOpt_dim(y, 3, [dim] if isinstance(dim, int) else list(dim), keep),
        aten.norm.ScalarOpt_dim,
    ),
    *(
        between(f"prod_{name}", reduce, aten.prod.dim_int)
        for name, reduce in (
            ("time", lambda y: y.tanh().prod(1)),
            ("channels", lambda y: y * (1 + 0.1 * y).prod(-1, keepdim=True)),
        )
    ),
    between(
        "truth_time",
        lambda y: y * (y > 0.1).any(1, keepdim=True) - y * (y > -0.1).all(1)[:, None],
        (aten.any.dim, aten.all.dim),
    ),
    between("truth_channels", lambda y: y * (y > 0.1).any(-1, True), aten.any.dim, 0, frozen=("asks every element",)),
    between("prod_everything", lambda y: y * (1 + 0.01 * y).prod(), aten.prod.default),
    between(
        "var_unbiased",
        lambda y: aten.var.dim(y, [1], False) + aten.std.dim(y, [1], False),
        (aten.var.dim, aten.std.dim),
    ),
    between("everything", lambda y: lone(y, torch.sum, torch.mean), (aten.sum.default, aten.mean.default)),
    between("extremes", lambda y: lone(y, torch.max, torch.min), (aten.max.default, aten.min.default)),
    between(
        "vector_norm_max",
        lambda y: y / torch.linalg.vector_norm(y, float("inf"), -1, True),
        (),
        0,
        frozen=("of order inf",),
    ),
    between("normalize", lambda y: F.normalize(y, dim=-1), (aten.linalg_vector_norm.default,)),
    between("softmax", lambda y: y.softmax(-1), (aten.softmax.int,)),
    between("log_softmax", lambda y: y.log_softmax(-1), (aten.log_softmax.int,)),
    between("softmax_time", lambda y: y.softmax(1) + y.log_softmax(1), (aten.softmax.int, aten.log_softmax.int)),
    between(
        "softmax_inner",
        lambda y: aten._softmax.default(y, -1, False) + aten._log_softmax.default(y, -1, False),
        (aten._softmax.default, aten._log_softmax.default),
    ),
    between("softmax_parts", lambda y: y.unflatten(-1, (3, 4)).softmax(2).flatten(2), (aten.softmax.int,), 2),
    between("max_time", lambda y: y.max(1)[0] + y.min(1)[0], (aten.max.dim, aten.min.dim)),
    between(
        "max_channels", lambda y: y * y.max(-1, keepdim=True)[0], (aten.max.dim,), 0, frozen=("returns positions",)
    ),
    between(
        "argmax",
        lambda y: y + y.argmax(1, keepdim=True) + y.argmin(1).unsqueeze(1),
        (aten.argmax.default, aten.argmin.default),
    ),
    between("topk", lambda y: y.topk(3, dim=1)[0] + y.sort(dim=1)[0][:, :3], (aten.topk.default, aten.sort.default)),
    between(
        "triangles",
        lambda y: y @ (torch.ones(12, 12).tril() + torch.ones(12, 12).triu()),
        (aten.tril.default, aten.triu.default),
        0,
        frozen=("compares positions",),
    ),
    between("cumsum", lambda y: y.cumsum(1) + y.cumsum(-1), (aten.cumsum.default,)),
    between("cumprod", lambda y: y.cumprod(1) + y.logcumsumexp(1), (aten.cumprod.default, aten.logcumsumexp.default)),
    between("cumprod_channels", lambda y: y.cumprod(-1), (aten.cumprod.default,), 0, frozen=("runs along it",)),
    normed("batch_norm", lambda: shifted(nn.BatchNorm1d(12)), aten.batch_norm.default),
    normed("batch_norm_2d", lambda: shifted(nn.BatchNorm2d(12)), aten.batch_norm.default, inputs=IMAGE),
    normed("batch_norm_plain", lambda: nn.BatchNorm1d(12, affine=False), aten.batch_norm.default),
    normed("instance_norm", lambda: shifted(nn.InstanceNorm1d(12, affine=True)), aten.instance_norm.default),
    normed(
        "instance_norm_tracked",
        lambda: shifted(nn.InstanceNorm2d(12, track_running_stats=True)),
        aten.instance_norm.default,
        inputs=IMAGE,
    ),
    normed("group_norm", lambda: shifted(nn.GroupNorm(3, 12)), aten.group_norm.default, groups=2),
    normed("group_norm_2d", lambda: nn.GroupNorm(4, 12, affine=False), aten.group_norm.default, inputs=IMAGE, groups=2),
    normed("group_norm_one", lambda: shifted(nn.GroupNorm(1, 12)), aten.group_norm.default),
    normed("group_norm_each", lambda: shifted(nn.GroupNorm(12, 12)), aten.group_norm.default),
    across("group_norm_across", lambda: shifted(nn.GroupNorm(1, 6)), aten.group_norm.default),
    across("group_norms_across", lambda: shifted(nn.GroupNorm(3, 6)), aten.group_norm.default, 3),
    across("instance_norm_across", lambda: shifted(nn.InstanceNorm2d(6, affine=True)), aten.instance_norm.default),
    across("instance_norm_plain_across", lambda: nn.InstanceNorm2d(6), aten.instance_norm.default),
    across(
        "instance_norm_tracked_across",
        lambda: shifted(nn.InstanceNorm2d(6, affine=True, track_running_stats=True)),
        aten.instance_norm.default,
    ),
    across("batch_norm_across", lambda: shifted(nn.BatchNorm2d(6)), aten.batch_norm.default),
    across("batch_norm_plain_across", lambda: nn.BatchNorm2d(6, affine=False), aten.batch_norm.default),
    across(
        "batch_norm_of_the_batch_across",
        lambda: shifted(nn.BatchNorm2d(6, track_running_stats=False)),
        aten.batch_norm.default,
    ),
    layer_normed("layer_norm", lambda: shifted(nn.LayerNorm(12)), aten.layer_norm.default),
    layer_normed("layer_norm_plain", lambda: nn.LayerNorm(12, elementwise_affine=False), aten.layer_norm.default),
    layer_normed("layer_norm_no_bias", lambda: nn.LayerNorm(12, bias=False), aten.layer_norm.default),
    layer_normed("layer_norm_two_axes", lambda: shifted(nn.LayerNorm((7, 12))), aten.layer_norm.default),
    layer_normed("rms_norm", lambda: shifted(nn.RMSNorm(12)), aten.rms_norm.default),
    layer_normed("rms_norm_plain", lambda: nn.RMSNorm(12, eps=1e-3, elementwise_affine=False), aten.rms_norm.default),
    between(
        "layer_norm_parts",
        lambda y: F.layer_norm(y.unflatten(-1, (3, 4)), (3, 4)).flatten(2),
        aten.layer_norm.default,
        2,
    ),
    pooled("avg_pool1d", lambda y: F.avg_pool1d(y, 3, 2), aten.avg_pool1d.default),
    between("pool_channels", lambda y: F.avg_pool1d(y, 3), aten.avg_pool1d.default, 0, frozen=("slides over it",)),
    between("pool_one_tap", lambda y: F.max_pool1d(y, 1), aten.max_pool1d.default),
    between(
        "pool_one_tap_strided", lambda y: F.avg_pool1d(y, 1, 2), aten.avg_pool1d.default, 0, frozen=("slides over it",)
    ),
    between(
        "pool_every_channel",
        lambda y: y * F.adaptive_avg_pool1d(y, 1),
        aten.adaptive_avg_pool1d.default,
        0,
        frozen=("slides over it",),
    ),
    between("pool2d_one_side", lambda y: F.max_pool2d(y.unsqueeze(1), (3, 1))[:, 0], aten.max_pool2d.default),
    pooled("max_pool1d", lambda y: F.max_pool1d(y, 3), aten.max_pool1d.default),
    pooled(
        "max_pool1d_indices", lambda y: F.max_pool1d(y, 3, return_indices=True)[0], aten.max_pool1d_with_indices.default
    ),
    pooled(
        "adaptive_pool1d",
        lambda y: F.adaptive_avg_pool1d(y, 1) + F.adaptive_avg_pool1d(y, 4),
        aten.adaptive_avg_pool1d.default,
    ),
    pooled("adaptive_max_pool1d", lambda y: F.adaptive_max_pool1d(y, 4), aten.adaptive_max_pool1d.default),
    pooled("avg_pool2d", lambda y: F.avg_pool2d(y, (2, 1)), aten.avg_pool2d.default, IMAGE),
    pooled("max_pool2d", lambda y: F.max_pool2d(y, 2), aten.max_pool2d.default, IMAGE),
    pooled(
        "max_pool2d_indices",
        lambda y: F.max_pool2d(y, 2, return_indices=True)[0],
        aten.max_pool2d_with_indices.default,
        IMAGE,
    ),
    pooled("adaptive_pool2d", lambda y: F.adaptive_avg_pool2d(y, (3, 1)), aten.adaptive_avg_pool2d.default, IMAGE),
    pooled(
        "adaptive_pool2d_inner",
        lambda y: aten._adaptive_avg_pool2d.default(y, [3, 2]),
        aten._adaptive_avg_pool2d.default,
        IMAGE,
    ),
    pooled("adaptive_max_pool2d", lambda y: F.adaptive_max_pool2d(y, 2), aten.adaptive_max_pool2d.default, IMAGE),
    pooled(
        "upsample1d",
        lambda y: F.interpolate(y, scale_factor=2) + F.interpolate(y, scale_factor=2, mode="linear"),
        (aten.upsample_nearest1d.vec, aten.upsample_linear1d.vec),
    ),
    pooled(
        "upsample2d",
        lambda y: F.interpolate(y, scale_factor=2) + F.interpolate(y, scale_factor=2, mode="bilinear"),
        (aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec),
        IMAGE,
    ),
    pooled(
        "upsample1d_sizes",
        lambda y: aten.upsample_nearest1d.default(y, [40]) + aten.upsample_linear1d.default(y, [40], False),
        (aten.upsample_nearest1d.default, aten.upsample_linear1d.default),
    ),
    pooled(
        "upsample2d_sizes",
        lambda y: aten.upsample_nearest2d.default(y, [20, 20]) + aten.upsample_bilinear2d.default(y, [20, 20], False),
        (aten.upsample_nearest2d.default, aten.upsample_bilinear2d.default),
        IMAGE,
    ),
    sample(
        "squeeze_excite",
        squeeze_excite,
        aten.mean.dim,
        2,
        SOUND,
        {"a": conv(3, 10), "down": linear(10, 4), "up": linear(4, 10), "b": conv(10, 2)},
    ),
    sample(
        "statistics",
        statistics,
        aten.std.dim,
        2,
        SOUND,
        {"a": conv(3, 6), "hidden": conv(18, 8, 1), "score": conv(8, 6, 1), "out": linear(12, 2)},
    ),
    Sample(
        "layer_scale",
        apply(lambda m, x: m.b(x + m.scale * m.a(x)), scale=tensor(6), a=linear(6, 6), b=linear(6, 2)),
        FRAMES,
        (),
        0,
        frozen=("model input",),
    ),
]
