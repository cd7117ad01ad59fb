"""Scores: how much the loss feels each unit, from gradients on calibration batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.axes.algebra import Axis
from shrinkspeech.errors import RecipeError
from shrinkspeech.fitting.blame import blame
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.groups import Group, Groups
from shrinkspeech.surgery.fold import Sums
from shrinkspeech.surgery.insert import GatedModule


@contextmanager
def weights_held(module: nn.Module) -> Iterator[None]:
    """Without gradients of the parameters: what only they would need is not kept in memory."""
    moving = [p for p in module.parameters() if p.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def taylor(
    gated: GatedModule,
    batches: Iterable[Any],
    loss: Callable[[GatedModule, Any], Tensor],
    names: Iterable[str] | None = None,
    sums: Sums | None = None,
) -> dict[str, Tensor]:
    """Score every unit of some groups.

    The score is the sum over batches of the squared gradient of the loss with respect to a keep of 1 on the unit
    (the first-order change that closing it makes, squared).

    Args:
        names: of groups that may shrink; all of them by default.
        sums: over the processes that have the other rows of these batches.

    Returns:
        ``[size]`` for each group, not negative. Batches whose gradient is not finite do not count.

    Raises:
        RecipeError: no batch has a finite gradient.
    """
    widths, sums = gated.widths, sums or Sums()
    gated.eval()
    sizes = dict(zip(widths.names, widths.sizes.tolist(), strict=True))
    chosen = widths.names if names is None else list(names)
    scores = {name: torch.zeros(int(sizes[name]), device=widths.sizes.device) for name in chosen}
    if not scores:
        return scores
    felt, finite = 0, 0
    try:
        for batch in batches:
            keeps = {name: torch.ones_like(score, requires_grad=True) for name, score in scores.items()}
            widths.overrides = dict(keeps)
            with torch.backends.cudnn.flags(enabled=False), weights_held(gated):
                value = loss(gated, batch)
                if not value.requires_grad:  # none of these groups reaches the loss
                    continue
                own = torch.autograd.grad(value, list(keeps.values()), allow_unused=True)
            gradients = [None if gradient is None else sums.total(gradient) for gradient in own]
            felt += 1
            if all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None):
                finite += 1
                for name, gradient in zip(keeps, gradients, strict=True):
                    if gradient is not None:
                        scores[name] += gradient.detach().square()
    finally:
        widths.overrides = {}
    if felt and not finite:
        source = blame(gated, lambda watched: loss(watched, batch), gated.source.where)
        raise RecipeError(
            "the loss or its gradient is not finite on any batch that units are scored with: "
            + (f"{source}; else " if source else "")
            + "look for bad values in the batches"
        )
    return scores


def magnitude(captured: Captured, groups: Groups) -> dict[str, Tensor]:
    """The L2 norm of everything that a unit owns, over all parameters that carry its group: the usual baseline.

    Returns:
        ``[size]`` for each group that may shrink.
    """
    weights = {name: tensor.detach() for name, tensor in captured.graph_module.named_parameters()}
    scores = {}
    for group in groups.shrinkable:
        total = torch.zeros(group.size)
        for carrier in group.carriers:
            if carrier.parameter in weights:
                owner = torch.tensor(owners(groups, groups.parameters[carrier.parameter][carrier.dim], group))
                squares = weights[carrier.parameter].float().square().movedim(carrier.dim, 0)
                total.index_add_(0, owner[owner >= 0], squares.reshape(len(owner), -1).sum(1)[owner >= 0])
        scores[group.name] = total.sqrt()
    return scores


def owners(groups: Groups, axis: Axis, group: Group) -> list[int]:
    """For each position of an axis the unit of ``group`` that it belongs to, or -1."""
    found = [-1] * axis.size
    others = set(groups.kept_index(axis, {group.name: []}))
    for unit in range(group.size):
        for position in groups.kept_index(axis, {group.name: [unit]}):
            if position not in others:
                found[position] = unit
    return found


def random_projection(outputs: Any, generator: torch.Generator) -> Tensor:
    """Outputs times random signs, summed: the squared gradient of this is what a mean square error feels."""
    leaves = [x for x in torch.utils._pytree.tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point()]
    signs = [torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1 for x in leaves]
    return torch.stack([(x * sign).sum() / x.numel() ** 0.5 for x, sign in zip(leaves, signs, strict=True)]).sum()
