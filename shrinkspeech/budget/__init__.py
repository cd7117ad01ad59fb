"""What a fit is held to. Importing this package registers every quantity.

registry.py    what can be limited, and a target as its user wrote it
flops.py and others like it    one quantity each
amounts.py     ``25%``, ``600k``, ``2ms``: read and written
goal.py        what a fit works towards
widths.py      the widths that meet a goal, real and whole
latency_model.py    time as a polynomial in the widths
"""

from shrinkspeech.budget import flops, latency, memory, params, size  # noqa: F401  (registers them)
from shrinkspeech.budget.amounts import BYTES, COUNTS, TIMES
from shrinkspeech.budget.registry import Quantity, Target, quantities, quantity

__all__ = ["BYTES", "COUNTS", "TIMES", "Quantity", "Target", "quantities", "quantity"]
