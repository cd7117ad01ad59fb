"""Torch-Pruning 1.6.1 with the settings that its README and its reproduction scripts give (see settings.md).

All variants prune as its ``reproduce/main.py`` does: channel ratios rise in STEPS small steps to 1, and pruning stops as soon
as the target is met. With ``interactive=True`` it stops between groups, so that the target is met closely.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import nn

from benchmarks.quality.peers.flops import Meter
from benchmarks.quality.peers.tp_graph import View, describe, examine, tracing
from benchmarks.quality.peers.tuning import CALIBRATION, Data, Unsupported, finetune, gradients

STEPS = 400
"""``--iterative-steps`` of reproduce/main.py."""

GUARDS = (0.9, 1.0)
"""``max_pruning_ratio``; the second only where the target cannot be met with the first."""

PRUNINGS = 5
"""``iterative_steps`` of the variants with fine-tuning between."""

PRUNING_SHARE = 0.5
"""The first pruning of these is at step 0, the rest of this share of the steps is spread between them."""

NEAR = 0.99
"""A step that ends below this share of the target is taken back, and pruning goes on without that group."""

TRIES = 6
"""Steps that are taken back at most."""

SLACK = 1.15
"""Costs are counted after every group once the last count, corrected by what is known since, is within this of the limit."""


@dataclass(frozen=True)
class Variant:
    """One way of using the library.

    Attributes:
        importance: ``l2``, ``taylor``, ``bn`` or ``group``.
        everywhere: rank all layers together (``global_pruning``), else the same share of each.
        isomorphic: rank together only groups of the same structure.
        sparse: train half of the steps with the pruner's own penalty first.
        iterative: prune in several rounds with fine-tuning between.
    """

    importance: str
    everywhere: bool = False
    isomorphic: bool = False
    sparse: bool = False
    iterative: bool = False

    def criterion(self) -> Any:
        """The library's importance."""
        match self.importance:
            case "taylor":
                return tp.importance.GroupTaylorImportance()
            case "bn":
                return tp.importance.BNScaleImportance()
            case "group":
                return tp.importance.GroupMagnitudeImportance(p=2, normalizer="max")
        return tp.importance.GroupMagnitudeImportance(p=2)

    def maker(self) -> Callable[..., Any]:
        """The library's pruner."""
        match self.importance:
            case "bn":
                return lambda *args, **options: tp.pruner.BNScalePruner(*args, reg=BN_PENALTY, **options)
            case "group":
                return lambda *args, **options: tp.pruner.GroupNormPruner(*args, reg=GROUP_PENALTY, **options)
        return tp.pruner.BasePruner

    def pruner(self, model: nn.Module, recipe: Any, view: View, guard: float) -> Any:
        with tracing():
            return view.pruner(
                model,
                recipe.example_inputs(),
                self.maker(),
                importance=self.criterion(),
                global_pruning=self.everywhere,
                isomorphic=self.isomorphic,
                pruning_ratio=1.0,
                max_pruning_ratio=guard,
                iterative_steps=STEPS,
            )


BN_PENALTY = 1e-3
"""``--reg`` of the BN pruner; reproduce/readme.md has 1e-5, see settings.md."""

GROUP_PENALTY = 5e-4
"""``--reg`` of the group pruner in reproduce/readme.md."""

VARIANTS = {
    "tp-uniform-l2": Variant("l2"),
    "tp-uniform-taylor": Variant("taylor"),
    "tp-global-l2": Variant("l2", everywhere=True, isomorphic=True),
    "tp-global-taylor": Variant("taylor", everywhere=True),
    "tp-global-bn": Variant("bn", everywhere=True, sparse=True),
    "tp-global-groupnorm": Variant("group", everywhere=True, sparse=True),
    "tp-uniform-taylor-iterative": Variant("taylor", iterative=True),
    "tp-global-taylor-iterative": Variant("taylor", everywhere=True, iterative=True),
}


def shrink(
    variant: Variant, model: nn.Module, recipe: Any, target: float, steps: int, rate: float, seed: int
) -> nn.Module:
    """Prune a copy of a model to a share of its FLOP/s and fine-tune it.

    Raises:
        Unsupported: the library cannot prune the model that far.
    """
    model = copy.deepcopy(model).eval().requires_grad_(True)
    data, meter = Data(recipe, seed), Meter(model, recipe)
    view = examine(model, recipe.example_inputs())
    task = Task(variant, data, meter, view, widths(model))
    if variant.iterative:
        share = PRUNING_SHARE / PRUNINGS
        for turn in range(PRUNINGS):
            model = task.prune(model, target ** ((turn + 1) / PRUNINGS))
            end = round(share * (turn + 1) * steps) if turn < PRUNINGS - 1 else steps
            finetune(model, data, steps, rate, round(share * turn * steps), end)
        return model
    if variant.sparse:
        pruner = variant.pruner(model, recipe, view, GUARDS[0])
        pruner.update_regularizer()
        penalty = lambda step, now: pruner.regularize(model)  # noqa: E731
        finetune(model, data, steps // 2, rate, weight_decay=0.0, before=penalty)
        steps -= steps // 2
    return finetune(task.prune(model, target), data, steps, rate)


def widths(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Output and input channels of every layer that has them."""
    graph = tp.DependencyGraph()
    found = {}
    for name, module in model.named_modules():
        pruner = graph.get_pruner_of_module(module)
        if pruner is not None and name:
            found[name] = (pruner.get_out_channels(module), pruner.get_in_channels(module))
    return found


@dataclass(frozen=True)
class Task:
    """Pruning of one model.

    Attributes:
        first: output and input channels of every layer of the original.
    """

    variant: Variant
    data: Data
    meter: Meter
    view: View
    first: dict[str, tuple[int, int]]

    def prune(self, model: nn.Module, target: float) -> nn.Module:
        """A pruned copy of the model whose cost is at most the target.

        Raises:
            Unsupported: it is not met when nothing can be pruned any more.
        """
        if self.variant.importance == "taylor":
            gradients(model, self.data, [self.data.next() for _ in range(CALIBRATION)])
        lowest = 1.0
        for guard in GUARDS:
            descent = Descent(self, model, guard)
            if (found := descent.down_to(target)) is not None:
                found.zero_grad()
                return found
            lowest = self.meter.exact(descent.model)
        raise Unsupported(
            f"Torch-Pruning stops at {lowest:.1%} of the FLOP/s, above the target of {target:.1%}; "
            f"left alone: {describe(self.view.ignored) or 'nothing'}"
        )


class Descent:
    """One way down in small steps, with the last of them taken back where it goes too far."""

    def __init__(self, task: Task, base: nn.Module, guard: float) -> None:
        self.task, self.base, self.guard = task, base, guard
        self.history: list[Any] = []
        self.skipped: set[str] = set()
        self.start(None)

    def start(self, before: Any) -> None:
        """A copy of the base that is pruned as ``history`` says, and a pruner that goes on where ``before`` was."""
        self.model = clone(self.base)
        self.pruner = self.task.variant.pruner(self.model, self.task.data.recipe, self.task.view, self.guard)
        if self.history:
            self.pruner.load_pruning_history(list(self.history))
        self.names = {module: name for name, module in self.model.named_modules()}
        for module, name in self.names.items():  # the guard is a share of the original's channels, in every round
            if module in self.pruner.layer_init_out_ch and name in self.task.first:
                self.pruner.layer_init_out_ch[module], self.pruner.layer_init_in_ch[module] = self.task.first[name]
        if before is not None:
            self.pruner.current_step = before.current_step - 1
            self.pruner._scope_initial_channels = before._scope_initial_channels
        self.counter = Counter(self.model, self.task.meter)

    def down_to(self, target: float) -> nn.Module | None:
        """Prune until the target is met; None if it is not met at the end."""
        if self.counter.share() <= target:
            return self.model
        best, closest = None, 0.0
        while self.pruner.current_step < STEPS and len(self.skipped) < TRIES:
            below = self._step(target)
            if below is None:
                continue
            share, root = below
            if share > closest:
                best, closest = self.model, share
            if share >= NEAR * target:
                break
            self.skipped.add(root)
            self.start(self.pruner)
        return best

    def _step(self, target: float) -> tuple[float, str] | None:
        """One small step; if it meets the target, the share and the layer whose group did it, which history leaves out."""
        with tracing():
            for group in self.pruner.step(interactive=True):
                dep, indices = group[0].dep, list(group[0].idxs)
                name = self.names[dep.target.module]
                if name in self.skipped:
                    continue
                group.prune()
                if self.counter.estimate() <= SLACK * target and (share := self.counter.share()) <= target:
                    return share, name
                self.history.append((name, self.pruner.DG.is_out_channel_pruning_fn(dep.handler), indices))
        return None


def clone(model: nn.Module) -> nn.Module:
    """A copy in eval mode, with gradients."""
    twin = copy.deepcopy(model).eval()
    for old, new in zip(model.parameters(), twin.parameters(), strict=True):
        new.grad = None if old.grad is None else old.grad.clone()
    return twin


class Counter:
    """Counts in full only where it matters: between counts, by the sizes of the weights."""

    def __init__(self, model: nn.Module, meter: Meter) -> None:
        self.model, self.meter = model, meter
        self.positions: dict[nn.Module, float] = {}
        self.ratio = 1.0
        self._watch()

    def _watch(self) -> None:
        """How often each weight is used in a forward pass."""
        hooks = []

        def note(module: nn.Module, args: Any, output: Any) -> None:
            size = (args[0] if getattr(module, "transposed", False) else output).numel()
            channels = module.in_channels if getattr(module, "transposed", False) else module.weight.shape[0]
            self.positions[module] = self.positions.get(module, 0.0) + size / channels

        for module in self.model.modules():
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                hooks.append(module.register_forward_hook(note))
        self.model(*self.meter.recipe.example_inputs())
        for hook in hooks:
            hook.remove()

    def _weights(self) -> float:
        return sum(count * module.weight.numel() for module, count in self.positions.items())

    def estimate(self) -> float:
        """The share of the original's cost, as far as the weights of layers tell it."""
        return self.ratio * self._weights()

    def share(self) -> float:
        """The share of the original's cost.

        Raises:
            Unsupported: the model does not run any more.
        """
        try:
            found = self.meter.share(self.model)
        except Exception as error:
            raise Unsupported(f"the model that Torch-Pruning made does not run: {error}") from error
        self.ratio = found / self._weights()
        return found
