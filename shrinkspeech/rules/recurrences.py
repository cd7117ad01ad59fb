"""Recurrent layers: one layer and direction a node (capture splits the fused call).

A GRU of width H: ``weight_ih [Product(3, H), I]``, ``weight_hh [Product(3, H), H]``, biases ``[Product(3, H)]``,
state ``[1, B, H]``; an LSTM the same with 4 and two states. Each recurrence reads H: the columns of ``weight_hh``
that belong to closed units are masked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shrinkspeech.axes.algebra import Axes, Axis, Fixed, product
from shrinkspeech.rules.masked import Keeps
from shrinkspeech.rules.registry import Effect, Fold, Masked, Read, Site, Term, rule

aten = torch.ops.aten


def masked_state(operator: Any) -> Any:
    """The operator with the columns of ``weight_hh`` scaled by the keep, as a gate scales a feature."""

    def call(keeps: Keeps, x: Tensor, state: Any, weights: list[Tensor], *rest: Any) -> Any:
        hidden = weights[1] if keeps[0] is None else weights[1] * keeps[0].to(weights[1].dtype)
        return operator(x, state, [weights[0], hidden, *weights[2:]], *rest)

    return call


def folds(site: Site, hidden: Axis) -> tuple[Fold, ...]:
    """The input meets ``weight_ih``; the layer's own output meets ``weight_hh`` one step later."""
    x, weights = site.arg(0), list(site.arg(2))
    if any(weight.op != "get_attr" for weight in weights):
        return ()
    biases = weights[2:4] if len(weights) == 4 else [None, None]
    last = len(site.axes(x)) - 1
    return (
        Fold(x, None, last, site.axes(x)[-1], weights[0], 1, biases[0]),
        Fold(site.node, 0, last, hidden, weights[1], 1, biases[1]),
    )


def layer(site: Site, gates: int, states: list[Any]) -> tuple[Axes, Axis, tuple[Term, ...]]:
    """Tie the axes of one layer; returns the output's axes, the axis of its state, and the cost."""
    x, weights = site.arg(0), list(site.arg(2))
    axes = site.axes(x)
    w_ih, w_hh = weights[:2]
    hidden = site.unifier.fresh(site.shape(w_hh)[0] // gates)
    for weight in weights:
        site.unify(site.axes(weight)[0], product(Fixed(gates), hidden))
    site.unify(site.axes(w_hh)[1], hidden)
    site.unify(site.axes(w_ih)[1], axes[-1])
    batch = (axes[0 if site.arg(8) else 1],) if len(axes) > 2 else ()
    for state in states:
        *several, width = site.axes(state)
        site.unify(width, hidden)
        for axis, items in zip(several[1:], batch, strict=True):
            site.unify(axis, items)
    terms = (
        Term(2.0 * gates, (*axes[:-1], hidden, axes[-1])),
        Term(2.0 * gates, (*axes[:-1], hidden, hidden)),
    )
    return (*axes[:-1], hidden), hidden, terms


@rule(aten.gru.input)
def gru(site: Site) -> Effect:
    x, state = site.arg(0), site.arg(1)
    out, hidden, terms = layer(site, 3, [state])
    return Effect(
        outputs=(out, (*site.axes(state)[:-1], hidden)),
        reads=(Read(x, len(out) - 1, site.axes(x)[-1]),),
        terms=terms,
        folds=folds(site, hidden),
        masked=Masked(masked_state(aten.gru.input), (hidden,)),
    )


@rule(aten.rnn_tanh.input, aten.rnn_relu.input)
def rnn(site: Site) -> Effect:
    x, state = site.arg(0), site.arg(1)
    out, hidden, terms = layer(site, 1, [state])
    return Effect(
        outputs=(out, (*site.axes(state)[:-1], hidden)),
        reads=(Read(x, len(out) - 1, site.axes(x)[-1]),),
        terms=terms,
        folds=folds(site, hidden),
        masked=Masked(masked_state(site.node.target), (hidden,)),
    )


@rule(aten.lstm.input)
def lstm(site: Site) -> Effect:
    x, states = site.arg(0), list(site.arg(1))
    if len(site.arg(2)) in (3, 5):
        return projected(site)
    out, hidden, terms = layer(site, 4, states)
    state = (*site.axes(states[0])[:-1], hidden)
    return Effect(
        outputs=(out, state, state),
        reads=(Read(x, len(out) - 1, site.axes(x)[-1]),),
        terms=terms,
        folds=folds(site, hidden),
        masked=Masked(masked_state(aten.lstm.input), (hidden,)),
    )


def projected(site: Site) -> Effect:
    """An LSTM with projection (``proj_size``): only its input may shrink."""
    x, weights = site.arg(0), list(site.arg(2))
    why = "an LSTM with projection keeps its width"
    axes = site.axes(x)
    site.unify(site.axes(weights[0])[1], axes[-1])
    for node in [*weights[1:], *site.arg(1)]:
        for axis in site.axes(node):
            site.freeze(axis, why)
    site.freeze(site.axes(weights[0])[0], why)
    four, proj = site.shape(weights[1])
    batch = axes[:-1]
    terms = tuple(
        Term(2.0, (*batch, *pair))
        for pair in ((Fixed(four), axes[-1]), (Fixed(four), Fixed(proj)), (Fixed(four // 4), Fixed(proj)))
    )
    shapes = site.shapes()
    return Effect(
        outputs=((*batch, Fixed(proj, why)), site.fixed(shapes[1], why), site.fixed(shapes[2], why)),
        reads=(Read(x, len(axes) - 1, axes[-1]),),
        terms=terms,
    )
