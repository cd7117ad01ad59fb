"""One optimiser step after another: batches, loss, learning rate, Accelerate. Knows nothing of widths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from shrinkspeech.errors import InputError, NotFiniteError
from shrinkspeech.fitting.accelerated import accelerator_of, prepared
from shrinkspeech.fitting.batches import Batches
from shrinkspeech.fitting.blame import blame, worst
from shrinkspeech.fitting.losses import Losses, to_device
from shrinkspeech.fitting.processes.sharing import Sharing
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.randomness import random_state, set_random_state
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.fitting.segments import in_segments, plain
from shrinkspeech.fitting.settings import Listener, Progress, Settings, Standing
from shrinkspeech.fitting.taylor import random_projection
from shrinkspeech.graph.captured import Captured
from shrinkspeech.surgery.part import OptimiserState

MOST_SKIPPED = 5
"""Steps in a row whose loss or gradient is not finite; after so many the fit goes back, or stops."""

SLOWER = 0.5
"""After it went back, its learning rate is this times what it was."""


class Trainer:
    """Trains whatever graph stands in for the original at the moment.

    Args:
        steps: length of the learning-rate cycle.
        learning_rate: at the height of the cycle.
        listener: gets the progress after each step, in the first process.
        team: the processes that train together.

    Attributes:
        step: optimiser steps of the cycle so far.
        recent: loss of the last 50 steps that moved the weights.
        skipped: steps of the cycle whose loss or gradient was not finite; ``in_a_row``: the last ones, without one between.
        returns: times that the cycle went back to an earlier state; ``pace``: what its learning rate is multiplied with.
        metrics: what the recipe's ``evaluate`` returned last.
        unevaluated: why it returned nothing of a trained model; None if it did.
    """

    def __init__(
        self,
        original: Captured,
        recipe: Recipe,
        settings: Settings,
        steps: int,
        learning_rate: float,
        listener: Listener,
        team: Team | None = None,
    ) -> None:
        if not 0 < learning_rate < math.inf:
            raise InputError(f"the learning rate is {learning_rate}: give a number above zero")
        self.team = team or Team()
        self.recipe, self.settings, self.learning_rate = recipe, settings, learning_rate
        self.listener: Listener = listener if self.team.leads else (lambda progress: None)
        self.accelerator, self.where = accelerator_of(settings.mixed_precision, self.team), original.where
        self.sharing = Sharing.of(original, self.team)
        self.losses = Losses(original, recipe, settings.distil, self.accelerator.device, self.sharing)
        self.batches = Batches(recipe, self.sharing)
        self.restart(steps)
        self.metrics: dict[str, float] = {}
        self.unevaluated: str | None = None

    def restart(self, steps: int) -> None:
        """Begin a new learning-rate cycle."""
        self.step, self.steps = 0, steps
        self.recent: list[float] = []
        self.skipped, self.in_a_row = 0, 0
        self.returns, self.pace = 0, 1.0

    @property
    def gated_steps(self) -> int:
        """How many steps of the cycle have gates."""
        return round(self.settings.gate_share * self.steps)

    def prepare(self, model: nn.Module, weights: Sequence[Tensor], remembered: OptimiserState) -> tuple[Any, Any]:
        """A model and its optimiser on the device, going on from what an earlier optimiser remembered; forgets those before."""
        self.accelerator.free_memory()
        model.to(self.accelerator.device)
        optimiser = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=self.settings.weight_decay)
        for name, parameter in model.named_parameters():
            if (state := remembered.get(own_name(name))) is not None:
                optimiser.state[parameter] = to_device(dict(state), parameter.device)
        if self.settings.checkpoint_activations:
            model = in_segments(model, self.sharing.keeping)
        wrapped, own = prepared(self.accelerator, self.team, model, optimiser)
        wrapped.train()
        return wrapped, own

    def plain(self, prepared: Any) -> Any:
        """The model that ``prepare`` was given."""
        return plain(self.accelerator.unwrap_model(prepared))

    def descend(self, model: nn.Module, optimiser: Any, weights: Sequence[Tensor], standing: Standing) -> bool:
        """One optimiser step on the weights; other gradients (those of the widths) are left as they come.

        A step whose loss or gradient is not finite is skipped: weights, the optimiser's state and what the forward pass
        wrote into buffers stay as they were. It counts as a step, and is told in the report.

        Args:
            standing: what the listener is told beside the step and the loss.

        Returns:
            Whether the weights were moved.

        Raises:
            NotFiniteError: several steps in a row were not finite.
            RecipeError: the loss is none (see ``Losses``).
        """
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate * self.schedule() * self.pace
        optimiser.zero_grad()
        value, batch = self._gradients(model)
        norm = float(self.accelerator.clip_grad_norm_(weights, self.settings.clip))
        moved = self._everywhere(math.isfinite(value) and (self.scaled or math.isfinite(norm)))
        if moved:
            optimiser.step()  # with scaled gradients it looks for itself whether they are finite
            moved = not getattr(optimiser, "step_was_skipped", False)
        if moved:
            self.in_a_row = 0
            self.recent = [*self.recent[-49:], value]
        else:
            self._skip(model, batch, before, value, standing)
        self.step += 1
        self.listener(Progress.of(standing, self.step, self.steps, value, self.metrics))
        return moved

    def _gradients(self, model: nn.Module) -> tuple[float, Any]:
        """Gradients of the mean loss of some batches, their loss, and the last batch or the first whose loss is not finite."""
        count, total, bad = self.settings.accumulate, 0.0, None
        for number in range(count):
            batch = self.next_batch()
            with nullcontext() if number == count - 1 else self.accelerator.no_sync(model):
                loss = self.loss(model, batch)
                loss = loss / count if count > 1 else loss
                value = float(loss.detach())
                self.accelerator.backward(loss)
            total += value
            bad = batch if bad is None and not math.isfinite(value) else bad
        return total, batch if bad is None else bad

    @property
    def scaled(self) -> bool:
        """Whether gradients are scaled for half precision; then some that are not finite are to be expected."""
        return self.accelerator.scaler is not None

    def _everywhere(self, fine: bool) -> bool:
        """Whether it is fine in every process: all of them step, or none."""
        return float(self.team.sum(torch.tensor(float(not fine)))) == 0.0

    @torch.no_grad()
    def _skip(
        self, model: nn.Module, batch: Any, before: Mapping[str, Tensor], value: float, standing: Standing
    ) -> None:
        """Undo what the forward pass did to buffers, and count.

        Raises:
            NotFiniteError: this has happened too often in a row.
        """
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
        for parameter in model.parameters():
            parameter.grad = None
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if self.in_a_row >= MOST_SKIPPED:
            what = f"loss of '{self.recipe.name}' is {value}" if not math.isfinite(value) else "gradient is not finite"
            own = blame(self.plain(model), lambda watched: self.loss(watched, batch), self.where)
            source = worst(self.team.all(own))
            raise NotFiniteError(
                f"the {what} at step {self.step} ({standing.stage}), the last of {self.in_a_row} such steps in a row: "
                + (f"{source}; else " if source else "")
                + "lower --learning-rate, or look for bad values in the batches"
            )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on beside the model, its optimiser and the random numbers."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "used": self.used,
            "recent": list(self.recent),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
            "returns": self.returns,
            "pace": self.pace,
            "metrics": dict(self.metrics),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: batches that were used are drawn again and thrown away."""
        self.batches.skip(state["used"])
        self.step, self.recent, self.metrics = state["step"], list(state["recent"]), dict(state["metrics"])
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.returns, self.pace = state["returns"], state["pace"]
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def go_back(self, state: Mapping[str, Any]) -> None:
        """Take the steps from a state on once more, with new batches and a smaller learning rate."""
        self.step, self.recent, self.in_a_row = state["step"], list(state["recent"]), 0
        self.returns, self.pace = self.returns + 1, self.pace * SLOWER

    def schedule(self) -> float:
        """One cycle over all steps: a linear rise, then half a cosine."""
        done, rise = self.step / max(self.steps, 1), self.settings.warm_up
        if done < rise:
            return 0.1 + 0.9 * done / rise
        return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))

    # -- losses ---------------------------------------------------------------------------------------------------

    def loss(self, model: Any, batch: Any) -> Tensor:
        """What a step descends, of a batch (see ``Losses``)."""
        with self.accelerator.autocast():
            return self.losses(model, batch)

    def calibration_loss(self, model: Any, batch: Any, generator: torch.Generator) -> Tensor:
        """The task loss; without labels, what a square error to the original's outputs would feel."""
        if self.recipe.loss is None:
            return random_projection(self.losses.signals(self.losses.outputs(model, batch)), generator)
        return self.loss(model, batch)

    # -- data -----------------------------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Batches drawn so far."""
        return self.batches.used

    def next_batch(self) -> Any:
        """The next of the recipe's batches."""
        return self.batches.draw()

    def close(self) -> None:
        """Draw no more batches."""
        self.batches.close()

    def evaluate(self, module: nn.Module) -> dict[str, float]:
        """The recipe's metrics of a model, which the first process measures; none if it has no ``evaluate``."""
        evaluate = self.recipe.evaluate
        if evaluate is None:
            return {}
        module.eval()
        with torch.no_grad():
            self.metrics, drawn = self.team.first(
                lambda: ({name: float(value) for name, value in evaluate(module).items()}, random_state(devices=False))
            )
        if not self.team.leads:
            set_random_state(drawn)  # the user's code may draw
        return self.metrics

    def evaluate_first(self, original: Captured, known: dict[str, Any]) -> dict[str, float]:
        """As ``evaluate``, of the original; in ``known`` it stays for a fit that goes on."""
        if "metrics" not in known:
            known["metrics"] = self.evaluate(original.copy())
        return dict(known["metrics"])

    def evaluate_trained(self, module: nn.Module) -> dict[str, float]:
        """As ``evaluate``, of a model that took long to train: no metrics where that fails, and ``unevaluated`` says why."""
        self.unevaluated = None
        try:
            return self.evaluate(module)
        except Exception as error:  # the user's code may raise anything
            self.unevaluated = f"{type(error).__name__}: {error}"
            return {}


def own_name(name: str) -> str:
    """The user's name of a parameter, also where gates stand around the graph."""
    return name.removeprefix("graph.")


def optimiser_state(model: nn.Module, optimiser: Any) -> dict[str, dict[str, Any]]:
    """What an optimiser remembers, by the parameter's own name."""
    inner = getattr(optimiser, "optimizer", optimiser)
    names = {id(parameter): own_name(name) for name, parameter in model.named_parameters()}
    return {names[id(p)]: dict(state) for p, state in inner.state.items() if id(p) in names}
