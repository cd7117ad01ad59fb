"""Operator rules. Importing this package registers them all."""

from shrinkspeech.rules import (
    cells,
    contraction,
    joins,
    pointwise,
    products,
    recurrences,
    reduction,
    shape,
    signal,
    table,
)
from shrinkspeech.rules.registry import Effect, Literal, Masked, Read, Site, Term, registered, rule, rule_for

__all__ = [
    "Effect",
    "Literal",
    "Masked",
    "Read",
    "Site",
    "Term",
    "cells",
    "contraction",
    "joins",
    "pointwise",
    "products",
    "recurrences",
    "reduction",
    "registered",
    "rule",
    "rule_for",
    "shape",
    "signal",
    "table",
]
