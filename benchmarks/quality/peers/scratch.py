"""The same architecture at uniform width, trained from random weights for as long as original and fit together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init

from benchmarks.quality.peers.own_graph import Graph
from benchmarks.quality.peers.tuning import Data, Unsupported, finetune
from shrinkspeech.fitting.randomness import seed_everything

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
RUNNING = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}


def shrink(
    model: nn.Module,
    recipe: Any,
    target: float,
    steps: int,
    rate: float,
    seed: int,
    extra: int = 0,
    scratch_rate: float | None = None,
) -> nn.Module:
    """Slice uniformly, forget all weights, train.

    Args:
        extra: steps that the original was trained for; they are added.
        scratch_rate: peak learning rate, where another one than for fine-tuning is usual.
    """
    graph = Graph.of(model, recipe, target)
    small = graph.cut(graph.uniform())
    data = Data(recipe, seed)
    seed_everything(seed)
    reset(small, model)
    return finetune(small, data, steps + extra, scratch_rate or rate)


@torch.no_grad()
def reset(small: nn.Module, model: nn.Module) -> None:
    """Give every parameter of a sliced graph the values that its layer begins with.

    The graph keeps the names of the model's parameters; the layer that owns one tells how it is initialised.

    Raises:
        Unsupported: a parameter of a layer whose beginning is not known.
    """
    values = dict(small.named_parameters())
    owners = dict(model.named_modules())
    for name, value in values.items():
        path, _, own = name.rpartition(".")
        _begin(owners.get(path), name, own, value, values)
    for name, buffer in small.named_buffers():
        if (start := RUNNING.get(name.rpartition(".")[2])) is not None:
            buffer.fill_(start)


def _begin(owner: nn.Module | None, name: str, own: str, value: Tensor, values: dict[str, Tensor]) -> None:
    """The default of torch for each kind of layer."""
    path = name.removesuffix(own)
    if isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
        if own == "weight":
            init.kaiming_uniform_(value, a=math.sqrt(5))
        else:
            fan_in = values[path + "weight"][0].numel()
            init.uniform_(value, -1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in))
    elif isinstance(owner, NORMS):
        value.fill_(1.0 if own == "weight" else 0.0)
    elif isinstance(owner, nn.RNNBase):
        ending = own[own.index("_l") :]  # _l0, _l1_reverse: every layer and direction has its own width
        hidden = values[f"{path}weight_hh{ending}"].shape[1]
        init.uniform_(value, -1.0 / math.sqrt(hidden), 1.0 / math.sqrt(hidden))
    elif isinstance(owner, nn.Embedding):
        init.normal_(value)
    elif isinstance(owner, nn.PReLU):
        value.fill_(0.25)
    elif isinstance(owner, nn.MultiheadAttention):
        init.xavier_uniform_(value) if value.dim() > 1 else value.zero_()
    else:
        raise Unsupported(f"how {name} of {type(owner).__name__} is initialised is not known")
