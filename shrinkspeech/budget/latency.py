"""Latency: the time of one run in onnxruntime on this machine."""

from __future__ import annotations

import statistics
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shrinkspeech.budget.amounts import TIMES, time_text
from shrinkspeech.budget.registry import Quantity, quantity

if TYPE_CHECKING:
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.cost import Polynomial


@quantity
class Latency(Quantity):
    """Median time in s of a batch of one at the example's length, on one thread of this machine.

    The polynomial is a model of it, fitted to runs at several widths (``latency_model.py``).
    """

    name, unit, units = "latency", "s", TIMES
    example = "2ms, 0.002s"
    help = "Time in onnxruntime for a batch of one of the example's length, on one thread of this machine: 50% or 2ms."
    repeats = 30

    def cost(self) -> Polynomial:
        from shrinkspeech.budget.latency_model import fit_latency
        from shrinkspeech.groups.cost import count

        settings, _, times = self._runs
        cost = count(self.captured, self.groups)
        return fit_latency([*cost.nodes.values(), *cost.extra.values()], settings, times)

    def measure(self, small: Captured) -> float:
        """In runs that take turns with the original's, whose own time cancels how busy the machine is."""
        from shrinkspeech.budget.latency_model import session_of, single
        from shrinkspeech.export.timing import in_turns

        _, whole, _ = self._runs
        first, second = in_turns([whole, session_of(small)], single(self.captured), 2 * self.repeats)
        return self.original * statistics.median(y / x for x, y in zip(first, second, strict=True))

    @cached_property
    def original(self) -> float:
        return self._runs[2][0]

    @cached_property
    def _runs(self) -> tuple[list[dict[str, int]], Any, list[float]]:
        """Widths, the first ones those of the whole model; its session; and the time in s at each widths."""
        from shrinkspeech.budget.latency_model import session_of, single, widths_to_time
        from shrinkspeech.export.timing import in_turns
        from shrinkspeech.surgery.slice import slice as slice_graph

        settings = widths_to_time(self.groups)
        whole = session_of(self.captured)
        smaller = [session_of(slice_graph(self.captured, self.groups, widths)) for widths in settings[1:]]
        rows = in_turns([whole, *smaller], single(self.captured), self.repeats)
        return settings, whole, [statistics.median(row) for row in rows]

    @classmethod
    def text(cls, amount: float) -> str:
        return time_text(amount)
