"""Operator rules. Importing this package registers them all."""

from shrinkspeech.rules import contraction, pointwise, recurrent, reduction, shape, signal
from shrinkspeech.rules.registry import Effect, Literal, Masked, Read, Site, Term, registered, rule, rule_for

__all__ = [
    "Effect",
    "Literal",
    "Masked",
    "Read",
    "Site",
    "Term",
    "contraction",
    "pointwise",
    "recurrent",
    "reduction",
    "registered",
    "rule",
    "rule_for",
    "shape",
    "signal",
]
