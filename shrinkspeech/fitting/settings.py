"""What a fit is told, and what it tells: its settings and its progress. The command line's ``--help`` reads it: no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shrinkspeech.budget.registry import Quantity


PRECISIONS = ("no", "bf16")
"""Kinds of mixed precision; in fp16 small gradients are lost."""


@dataclass(frozen=True)
class Settings:
    """The method's own settings; docs/method.md says what each was measured to do.

    Attributes:
        warm_start: the first slice leaves this times the budget; None starts from the whole model.
        gate_share: share of the steps with gates; the rest tunes the sliced model.
        hold_share: share of the gated steps at constant cost.
        window: width of the noisy boundary at the start, in units; it ends at 1.
        keep_power: the gates' noisy features keep their power, as in the paper, instead of having the Wiener gain.
        width_rate: root mean square change of log width in a gated step.
        reslice: units that are closed for good are removed as soon as that leaves less than this share of the FLOP/s of
            the graph that is trained; 0 never.
        calibration: batches for scores and folding.
        score: ``selection`` (see ``selection.py``; Taylor scores where it does not apply), ``taylor`` (gradients) or
            ``magnitude`` (L2 norm, the usual baseline).
        distil: weight of the distance to the original's outputs, relative to their variance.
        warm_up: share of the steps in which the learning rate rises.
        train_frozen: train, fold and average parameters too that their owner froze (``requires_grad=False``, or read under
            ``no_grad`` alone), but no Fourier transforms; else they stay as they are to the bit, but for channels that go.
        accumulate: batches in a step, whose gradients are averaged.
        mixed_precision: ``bf16`` computes in bfloat16 where that is safe (torch's autocast), ``no`` in float32; None is what
            ``accelerate launch`` says, and ``no`` without it. Weights are float32 all the same.
        checkpoint_activations: keep few activations for the backward pass and compute the others again: less memory, more time.
        average: the weights that a fit leaves are a running average over about this share of the tuning steps; 0: the last.
    """

    warm_start: float | None = 2.0
    gate_share: float = 0.25
    hold_share: float = 0.5
    window: float = 8.0
    keep_power: bool = False
    width_rate: float = 0.01
    reslice: float = 0.8
    calibration: int = 8
    fold: bool = True
    score: str = "selection"
    distil: float = 16.0
    warm_up: float = 0.15
    weight_decay: float = 0.01
    clip: float = 5.0
    average: float = 0.2
    train_frozen: bool = False
    accumulate: int = 1
    mixed_precision: str | None = None
    checkpoint_activations: bool = False


@dataclass(frozen=True)
class Standing:
    """How far a stage has come: what it tells the user with each step.

    Attributes:
        stage: its name.
        cost: what the budget limits, at the present widths, in the unit of ``quantity``.
        target: the most that it may be.
        flops: FLOP/s at the present widths.
    """

    stage: str
    cost: float
    target: float
    quantity: type[Quantity]
    flops: float


@dataclass(frozen=True)
class Progress:
    """One step of a fit.

    Attributes:
        step: optimiser steps so far, of ``steps`` in all.
        stage: name of the stage.
        loss: of this step's batch.
        flops: FLOP/s at the present widths.
        target: the most that ``cost`` may be.
        metrics: what the recipe's ``evaluate`` returned last.
        cost: what the budget limits, at the present widths, in the unit of ``quantity``.
    """

    step: int
    steps: int
    stage: str
    loss: float
    flops: float
    target: float
    metrics: Mapping[str, float]
    cost: float
    quantity: type[Quantity]

    @classmethod
    def of(cls, now: Standing, step: int, steps: int, loss: float, metrics: Mapping[str, float]) -> Progress:
        """One step of a stage that stands at ``now``."""
        return cls(step, steps, now.stage, loss, now.flops, now.target, metrics, now.cost, now.quantity)


Listener = Callable[[Progress], None]
