"""Time as a polynomial in the widths: fitted to runs of the model at several widths in onnxruntime on this machine.

A run of the model at widths K is taken to last c₀ + Σ c_n · F_n(K) seconds, with F_n the operations of node n and every
c not negative: c₀ is what does not shrink, the others are how fast each operator is. Sessions run in turns, so that
what else the machine does hits all alike, and medians are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from shrinkspeech.export.onnx_file import open_session
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.sizes import other_inputs
from shrinkspeech.groups.cost import Polynomial
from shrinkspeech.groups.groups import Groups

Array = np.ndarray[Any, Any]

SHARES = (0.75, 0.5, 0.35, 0.25, 0.15, 0.08)
"""Uniform widths that are timed, beside the whole model."""

MIXED = 4
"""Settings with a width of its own for each group."""

RIDGE = 1e-3


def session_of(captured: Captured) -> Any:
    """A model in onnxruntime, on one thread."""
    import onnx_ir

    from shrinkspeech.export.onnx_graph import onnx_model
    from shrinkspeech.export.transform_times import planned
    from shrinkspeech.export.transforms import AUTO

    return open_session(onnx_ir.to_proto(onnx_model(captured, planned(captured, AUTO))))


def single(captured: Captured) -> tuple[Any, ...]:
    """Inputs of the example's length in a batch of one, where the model takes that."""
    return other_inputs(captured, lambda axis, size: 1 if axis.is_batch else size)


def widths_to_time(groups: Groups) -> list[dict[str, int]]:
    """Widths to time: the whole model, uniform shares of it, and mixtures (always the same ones)."""
    generator = torch.Generator().manual_seed(0)
    movable = groups.shrinkable
    rows: list[list[float]] = [[share] * len(movable) for share in (1.0, *SHARES)]
    rows += [(0.1 + 0.8 * torch.rand(len(movable), generator=generator)).tolist() for _ in range(MIXED)]
    return [
        {g.name: max(g.min_width, 1, round(share * g.size)) for g, share in zip(movable, row, strict=True)}
        for row in rows
    ]


def fit_latency(
    nodes: Sequence[Polynomial], settings: Sequence[Mapping[str, int]], times: Sequence[float]
) -> Polynomial:
    """The combination of polynomials, and a constant, nearest to the times (in relative square error), none negative.

    A weak pull towards equal speed of all nodes decides what the times do not.
    """
    full = settings[0]
    nodes = [node for node in nodes if node.at(full) > 0]
    parts = [Polynomial({(): 1.0}), *(node.scale(1 / node.at(full)) for node in nodes)]
    measured = np.array(times)
    rows = np.array([[part.at(widths) for part in parts] for widths in settings]) / measured[:, None]
    share = np.array([node.at(full) for node in nodes])
    share = share / max(float(share.sum()), 1e-30)
    constant, whole = not_negative(np.stack([rows[:, 0], rows[:, 1:] @ share], axis=1), np.ones(len(times)))
    pull = (RIDGE * len(times)) ** 0.5 / measured.mean() * np.eye(len(parts))
    wanted = np.concatenate([np.ones(len(times)), pull @ np.array([constant, *(whole * share)])])
    total = Polynomial({})
    for part, factor in zip(parts, not_negative(np.concatenate([rows, pull]), wanted), strict=True):
        total = total + part.scale(float(factor))
    return total


def not_negative(matrix: Array, wanted: Array, sweeps: int = 1000) -> Array:
    """The x ≥ 0 of least |matrix · x − wanted|², one element after the other: ``[rows, n]``, ``[rows]`` → ``[n]``."""
    square, target = matrix.T @ matrix, matrix.T @ wanted
    x = np.zeros(matrix.shape[1])
    for _ in range(sweeps):
        before = x.copy()
        for i in np.flatnonzero(square.diagonal() > 0):
            x[i] = max(0.0, x[i] + (target[i] - square[i] @ x) / square[i, i])
        if np.abs(x - before).max() <= 1e-10 * x.max():
            break
    return x
