"""Fit: score, warm start, gate, repair, tune. One readable loop; surgery and gates live elsewhere."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from shrinkspeech.budget import Space, parse_budget, reach, repair, space, uniform
from shrinkspeech.capturing import Captured
from shrinkspeech.controller import WidthController, between
from shrinkspeech.cost import DifferentiableCost, count
from shrinkspeech.errors import RecipeError
from shrinkspeech.fitted import Fitted, FitReport
from shrinkspeech.folding import fold
from shrinkspeech.gating import GatedModule, gate
from shrinkspeech.groups import Groups
from shrinkspeech.labelling import label
from shrinkspeech.recipe import Recipe, load_recipe
from shrinkspeech.scoring import magnitude, random_projection, taylor
from shrinkspeech.slicing import slice as slice_graph
from shrinkspeech.slicing import slice_tensors


@dataclass(frozen=True)
class Settings:
    """The method's own settings; docs/method.md says what each was measured to do.

    Attributes:
        warm_start: the first slice leaves this times the budget; None starts from the whole model.
        gate_share: share of the steps with gates; the rest tunes the sliced model.
        hold_share: share of the gated steps at constant cost.
        window: width of the noisy boundary at the start, in units; it ends at 1.
        width_rate: root mean square change of log width in a gated step.
        calibration: batches for scores and folding.
        score: ``taylor`` or ``magnitude`` (L2 norm, the usual baseline).
        distil: weight of the distance to the original's outputs, relative to their variance.
        warm_up: share of the steps in which the learning rate rises.
    """

    warm_start: float | None = 1.6
    gate_share: float = 0.4
    hold_share: float = 0.5
    window: float = 8.0
    width_rate: float = 0.01
    calibration: int = 8
    fold: bool = True
    score: str = "taylor"
    distil: float = 0.0
    warm_up: float = 0.15
    weight_decay: float = 0.01
    clip: float = 5.0


@dataclass(frozen=True)
class Progress:
    """One step of a fit. ``flops`` and ``target`` are FLOP/s."""

    step: int
    steps: int
    stage: str
    loss: float
    flops: float
    target: float
    metrics: Mapping[str, float]


def fit(
    captured: Captured,
    recipe: Any,
    target_flops: str | float,
    *,
    steps: int = 1000,
    seed: int = 0,
    seconds: float = 1.0,
    groups: Groups | None = None,
    learning_rate: float = 2e-3,
    round_to: int = 1,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    evaluate: bool = True,
) -> Fitted:
    """Shrink a captured model to a budget while fine-tuning it.

    Args:
        recipe: path of a recipe file, a module or object with ``train_batches`` and ``loss``, or a ``Recipe``.
        target_flops: ``"25%"``, ``"0.25x"``, ``"600k"`` or FLOP/s.
        steps: optimiser steps in all.
        seconds: audio that one item of the example batch holds, in s.
        groups: the labelled graph, for instance restricted by ``Groups.restrict``.
        round_to: widths become multiples of this.
        evaluate: call the recipe's ``evaluate`` on the original and on the small model.

    Raises:
        BudgetError: the target cannot be read, is above the original, or cannot be reached.
        RecipeError: the recipe lacks something, or the loss is not finite.
    """
    groups = label(captured) if groups is None else groups
    job = _Fit(captured, load_recipe(recipe), groups, seconds, steps, seed, learning_rate, settings or Settings(), on_progress)
    return job.run(target_flops, round_to, evaluate)


class _Fit:
    """The state of one fit."""

    def __init__(
        self,
        captured: Captured,
        recipe: Recipe,
        groups: Groups,
        seconds: float,
        steps: int,
        seed: int,
        learning_rate: float,
        settings: Settings,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.captured, self.recipe, self.groups, self.seconds = captured, recipe, groups, seconds
        self.steps, self.seed, self.learning_rate, self.settings = steps, seed, learning_rate, settings
        self.on_progress = on_progress or (lambda progress: None)
        self.accelerator = Accelerator()
        self.teacher: nn.Module | None = None
        self.step, self.flops, self.target, self.stage = 0, 0.0, 0.0, ""
        self.metrics: dict[str, float] = {}

    def run(self, target_flops: str | float, round_to: int, evaluate: bool) -> Fitted:
        started = time.perf_counter()
        seed_everything(self.seed)
        cost = count(self.captured, self.groups, self.seconds)
        self.target = parse_budget(target_flops).resolve(cost.original)
        choice = space(self.groups, cost.total, cost.full, round_to)
        reach(choice, self.target)
        self.flops = cost.original
        before = self.evaluate(self.captured.module()) if evaluate else {}
        self.teacher = self.accelerator.prepare(self.captured.module().requires_grad_(False)) if self.distils else None
        self.batches = self.endless()

        kept, small, groups = self.warm_start(choice)
        widths, units, small, state = self.gated(small, groups, choice, kept)
        module = self.tune(small, state)
        final = replace(small, graph_module=self.accelerator.unwrap_model(module).cpu().eval())
        after = self.evaluate(final.graph_module) if evaluate else {}
        report = FitReport(
            original_flops=cost.original,
            target_flops=self.target,
            flops=choice.at(widths),
            original_params=parameter_count(self.captured),
            params=parameter_count(final),
            metrics_before=before,
            metrics_after=after,
            seconds=self.seconds,
            steps=self.steps,
            seed=self.seed,
            duration=time.perf_counter() - started,
        )
        return Fitted(final, widths, units, report)

    @property
    def distils(self) -> bool:
        return self.recipe.loss is None or self.settings.distil > 0

    # -- stages ---------------------------------------------------------------------------------------------------

    def warm_start(self, choice: Space) -> tuple[dict[str, list[int]], Captured, Groups]:
        """Rank units, slice uniformly to somewhat above the budget, fold what is removed into what stays."""
        self.stage = "score"
        batches = [next(self.batches) for _ in range(self.settings.calibration)]
        gated = gate(self.captured, self.groups).to(self.accelerator.device)
        for name, score in self.scores(gated, batches).items():
            gated.widths.set_rank(name, score)
        start = None if self.settings.warm_start is None else self.settings.warm_start * self.target
        if start is None or start >= choice.at(choice.full):
            widths = dict(choice.full)
        else:
            widths = uniform(choice, start)
        kept = gated.widths.cpu().kept(widths)
        source = self.captured
        if self.settings.fold and any(len(units) < choice.full[name] for name, units in kept.items()):
            source = fold(source, self.groups, kept, (self.inputs(batch, "cpu") for batch in batches))
        order = {name: [int(gated.widths.rank(name)[unit]) for unit in units] for name, units in kept.items()}
        self.order = order
        return kept, slice_graph(source, self.groups, kept), self.groups.narrowed(kept)

    def scores(self, gated: GatedModule, batches: Sequence[Any]) -> dict[str, Tensor]:
        if self.settings.score == "magnitude":
            return magnitude(self.captured, self.groups)
        generator = torch.Generator().manual_seed(self.seed)
        return taylor(gated, batches, lambda model, batch: self.calibration_loss(model, batch, generator))

    def gated(
        self, small: Captured, groups: Groups, choice: Space, kept: dict[str, list[int]]
    ) -> tuple[dict[str, int], dict[str, list[int]], Captured, dict[str, Any]]:
        """Widths as real numbers: fall to the budget, trade at constant cost, become whole; then slice."""
        self.stage = "gate"
        settings = self.settings
        model = gate(small, groups)
        names = model.widths.names
        for name in names:
            model.widths.set_rank(name, -torch.tensor(self.order[name], dtype=torch.float64))
        full = {name: len(kept[name]) for name in kept}
        narrow = replace(choice, full={name: min(choice.full[name], full[name]) for name in choice.full})
        controller = WidthController(
            model.widths,
            Space(narrow.cost, {n: narrow.full[n] for n in names}, {n: narrow.lowest[n] for n in names}, narrow.step),
            DifferentiableCost(count(small, groups, self.seconds), names),
            settings.width_rate,
        ) if names else None
        total = round(settings.gate_share * self.steps)
        weights = [p for name, p in model.named_parameters() if p.requires_grad and name != "widths.fractions"]
        prepared, optimiser = self.prepare(model, weights)
        prepared.train()
        self.flops = start = choice.at(full)
        for i in range(total):
            progress = (i + 1) / max(total, 1)
            budget = between(start, self.target, progress / max(1 - settings.hold_share, 1e-9))
            model.widths.window = between(settings.window, 1.0, progress)
            self.descend(prepared, optimiser, weights)
            if controller is not None:
                self.flops = self.cost_with(choice, full, controller.step(budget), model)
        real = {**full, **dict(zip(names, model.widths.real.tolist(), strict=True))}
        widths = repair(real, narrow, self.target)
        model = model.cpu()
        units = {name: model.widths.kept({name: widths[name]})[name] if name in names else list(range(widths[name])) for name in widths}
        state = slice_tensors(optimiser_state(model, optimiser), groups, units)
        composed = {name: [kept[name][unit] for unit in units[name]] for name in units}
        self.flops = choice.at(widths)
        return widths, composed, slice_graph(model.captured(), groups, units), state

    def cost_with(self, choice: Space, full: Mapping[str, int], _: float, model: GatedModule) -> float:
        return choice.at({**full, **dict(zip(model.widths.names, model.widths.real.tolist(), strict=True))})

    def tune(self, small: Captured, state: dict[str, Any]) -> nn.Module:
        """Fine-tune the sliced model for the steps that are left."""
        self.stage = "tune"
        module = small.module()
        weights = [p for p in module.parameters() if p.requires_grad]
        prepared, optimiser = self.prepare(module, weights)
        load_optimiser_state(module, optimiser, state)
        prepared.train()
        while self.step < self.steps:
            self.descend(prepared, optimiser, weights)
        return prepared

    # -- one step -------------------------------------------------------------------------------------------------

    def prepare(self, model: nn.Module, weights: Sequence[Tensor]) -> tuple[Any, Any]:
        model.to(self.accelerator.device)
        optimiser = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=self.settings.weight_decay)
        prepared: tuple[Any, Any] = self.accelerator.prepare(model, optimiser)
        return prepared

    def descend(self, model: nn.Module, optimiser: Any, weights: Sequence[Tensor]) -> None:
        """One optimiser step on the weights; the gradient of the widths is left for the controller."""
        batch = next(self.batches)
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate * self.schedule()
        loss = self.loss(model, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RecipeError(
                f"the loss of '{self.recipe.name}' is {value} at step {self.step} ({self.stage}): lower --learning-rate, "
                "or look for bad values in the batches"
            )
        optimiser.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(weights, self.settings.clip)
        optimiser.step()
        self.step += 1
        self.on_progress(Progress(self.step, self.steps, self.stage, value, self.flops, self.target, self.metrics))

    def schedule(self) -> float:
        """One cycle over the whole fit: a linear rise, then half a cosine."""
        done, rise = self.step / max(self.steps, 1), self.settings.warm_up
        if done < rise:
            return 0.1 + 0.9 * done / rise
        return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))

    def loss(self, model: Any, batch: Any) -> Tensor:
        arguments = self.inputs(batch, self.accelerator.device)
        with self.accelerator.autocast():
            outputs = model(*arguments)
            if self.recipe.loss is None:
                return self.distance(outputs, arguments)
            loss = self.recipe.loss(outputs, to_device(batch, self.accelerator.device))
            if self.teacher is not None:
                loss = loss + self.settings.distil * self.distance(outputs, arguments)
            return loss

    def calibration_loss(self, model: Any, batch: Any, generator: torch.Generator) -> Tensor:
        """The task loss; without labels, what a square error to the original's outputs would feel."""
        if self.recipe.loss is None:
            return random_projection(model(*self.inputs(batch, self.accelerator.device)), generator)
        return self.loss(model, batch)

    def distance(self, outputs: Any, arguments: tuple[Any, ...]) -> Tensor:
        """Mean square difference to the original's outputs, relative to their variance."""
        assert self.teacher is not None
        with torch.no_grad():
            wanted = self.teacher(*arguments)
        pairs = zip(tree_leaves(outputs), tree_leaves(wanted), strict=True)
        parts = [(x - y).square().mean() / y.var().clamp_min(1e-8) for x, y in pairs if isinstance(y, Tensor)]
        return torch.stack(parts).mean()

    def inputs(self, batch: Any, device: Any) -> tuple[Any, ...]:
        given = self.recipe.inputs(batch)
        return to_device(tuple(given) if isinstance(given, tuple | list) else (given,), device)

    def endless(self) -> Iterator[Any]:
        """The recipe's batches, from the start again when they end."""
        while True:
            empty = True
            for batch in self.recipe.train_batches():
                empty = False
                yield batch
            if empty:
                raise RecipeError(f"train_batches() of '{self.recipe.name}' yields nothing")

    def evaluate(self, module: nn.Module) -> dict[str, float]:
        if self.recipe.evaluate is None:
            return {}
        module.eval()
        with torch.no_grad():
            self.metrics = {name: float(value) for name, value in self.recipe.evaluate(module).items()}
        return self.metrics


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def to_device(value: Any, device: Any) -> Any:
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, value)


def parameter_count(captured: Captured) -> int:
    return sum(p.numel() for p in captured.graph_module.parameters())


def optimiser_state(model: GatedModule, optimiser: Any) -> dict[str, dict[str, Tensor]]:
    """Moments of the optimiser by the parameter's own name."""
    inner = getattr(optimiser, "optimizer", optimiser)
    names = {id(parameter): name.removeprefix("graph.") for name, parameter in model.named_parameters()}
    return {names[id(p)]: dict(state) for p, state in inner.state.items() if id(p) in names}


def load_optimiser_state(module: nn.Module, optimiser: Any, state: dict[str, dict[str, Tensor]]) -> None:
    inner = getattr(optimiser, "optimizer", optimiser)
    for name, parameter in module.named_parameters():
        if name in state:
            inner.state[parameter] = to_device(dict(state[name]), parameter.device)


__all__ = ["FitReport", "Fitted", "Progress", "Settings", "fit"]
