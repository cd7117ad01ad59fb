"""Recurrent cells, one step a node: loops over time that the user wrote in Python.

The weights are those of the layers (``recurrences.py``). The state is read through the columns of ``weight_hh``: those
that belong to closed units are masked, as in a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from shrinkspeech.axes.algebra import Axes, Fixed, product
from shrinkspeech.rules.masked import Keeps
from shrinkspeech.rules.registry import Effect, Fold, Masked, Read, Site, Term, rule

aten = torch.ops.aten


def masked_cell(operator: Any) -> Any:
    """The operator with the columns of ``weight_hh`` scaled by the keep."""

    def call(keeps: Keeps, x: Tensor, state: Any, w_ih: Tensor, w_hh: Tensor, *biases: Any) -> Any:
        if keeps[0] is not None:
            w_hh = w_hh * keeps[0].to(w_hh.dtype)
        return operator(x, state, w_ih, w_hh, *biases)

    return call


def cell(site: Site, gates: int, states: list[fx.Node]) -> Effect:
    """Tie the axes of one step: ``x [B, I]``, states ``[B, H]``, weights ``[gates · H, I]`` and ``[gates · H, H]``."""
    x, w_ih, w_hh = site.arg(0), site.arg(2), site.arg(3)
    *batch, inputs = site.axes(x)
    hidden = site.unifier.fresh(site.shape(w_hh)[1])
    for weight in (w_ih, w_hh, site.arg(4, "b_ih"), site.arg(5, "b_hh")):
        if isinstance(weight, fx.Node):
            site.unify(site.axes(weight)[0], product(Fixed(gates), hidden))
    site.unify(site.axes(w_hh)[1], hidden)
    site.unify(site.axes(w_ih)[1], inputs)
    for state in states:
        for axis, matching in zip(site.axes(state), (*batch, hidden), strict=True):
            site.unify(axis, matching)
    out: Axes = (*batch, hidden)
    bias = site.arg(4, "b_ih")
    folds = (Fold(x, None, len(batch), inputs, w_ih, 1, bias if isinstance(bias, fx.Node) else None),)
    return Effect(
        outputs=(out,) * len(site.shapes()),
        reads=(Read(x, len(batch), inputs),),
        terms=(Term(2.0 * gates, (*out, inputs)), Term(2.0 * gates, (*out, hidden))),
        folds=folds if w_ih.op == "get_attr" else (),
        masked=Masked(masked_cell(site.node.target), (hidden,)),
    )


@rule(aten.gru_cell.default)
def gru_cell(site: Site) -> Effect:
    return cell(site, 3, [site.arg(1)])


@rule(aten.lstm_cell.default)
def lstm_cell(site: Site) -> Effect:
    return cell(site, 4, list(site.arg(1)))


@rule(aten.rnn_tanh_cell.default, aten.rnn_relu_cell.default)
def rnn_cell(site: Site) -> Effect:
    return cell(site, 1, [site.arg(1)])
