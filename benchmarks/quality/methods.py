"""How a model is shrunk: ours, ours with parts left out, and the peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

import shrinkspeech
from benchmarks.quality.cases import Case
from shrinkspeech.fitting.settings import Settings
from shrinkspeech.graph.captured import Captured

UNIFORM = {"gate_share": 0.0, "warm_start": 1.0}

PLAIN = {"fold": False, "distil": 0.0, "average": 0.0}

OURS: dict[str, Settings] = {
    "ours": Settings(),
    "ours, distil 1": Settings(distil=1.0),
    "ours, no distil": Settings(distil=0.0),
    "ours, no average": Settings(average=0.0),
    "ours, w=1": Settings(window=1.0),
    "ours, power kept": Settings(keep_power=True),
    "ours, no gates": Settings(**UNIFORM),
    "ours, uniform l2": Settings(**UNIFORM, score="magnitude", fold=False),
    "paper gate": Settings(window=1.0, keep_power=True, warm_start=None, score="taylor", **PLAIN),
    "uniform taylor": Settings(**UNIFORM, **PLAIN, score="taylor"),
    "uniform l2": Settings(**UNIFORM, **PLAIN, score="magnitude"),
}
"""Fits of this library. ``paper gate``: one noisy unit of constant power, from the whole model. Those with PLAIN are
tuned as other tools tune: on the task's loss alone, and the last weights remain."""


@dataclass(frozen=True)
class Shrunk:
    """A shrunk, tuned model and what it costs, as a share of the original's FLOP/s."""

    module: nn.Module
    captured: Captured
    share: float
    widths: dict[str, int]


def shrink(case: Case, method: str, target: float, steps: int, rate: float, seed: int) -> Shrunk:
    """Shrink and tune with ``steps`` optimiser steps in all.

    Args:
        target: share of the original's FLOP/s.

    Raises:
        Unsupported: the method cannot handle the model.
    """
    if method == "original":
        captured = case.captured()
        return Shrunk(captured.graph_module, captured, 1.0, {})
    if method in OURS:
        return by_us(case, OURS[method], target, steps, rate, seed)
    from benchmarks.quality.peers import METHODS as PEERS

    more = {"extra": case.recipe.TRAINED} if method == "scratch-uniform" else {}
    module = PEERS[method](case.original(), case.shifted(), target, steps, rate, seed, **more)
    captured = shrinkspeech.capture(module.eval(), case.recipe.example_inputs())
    return Shrunk(module, captured, shrinkspeech.flops(captured) / shrinkspeech.flops(case.captured()), {})


def by_us(case: Case, settings: Settings, target: float, steps: int, rate: float, seed: int) -> Shrunk:
    fitted = shrinkspeech.fit(
        case.captured(),
        case.seeded(seed),
        f"{100 * target}%",
        steps=steps,
        seed=seed,
        seconds=case.recipe.SECONDS,
        learning_rate=rate,
        settings=settings,
        evaluate=False,
    )
    share = fitted.report.flops / fitted.report.original_flops
    return Shrunk(fitted.captured.graph_module, fitted.captured, share, dict(fitted.widths))


def names() -> list[str]:
    """Every method that can be asked for."""
    try:
        from benchmarks.quality.peers import METHODS as PEERS

        peers: dict[str, Callable[..., nn.Module]] = PEERS
    except ImportError:
        peers = {}
    return ["original", *OURS, *peers]
