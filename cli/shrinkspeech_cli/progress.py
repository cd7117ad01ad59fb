"""How a fit goes: a bar on a terminal, plain lines elsewhere; both on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from shrinkspeech.budget.amounts import human

if TYPE_CHECKING:
    from shrinkspeech.fitting.fit import Progress

LINES = 20
"""Plain lines that a whole fit prints, beside one at the start of each stage."""


@contextmanager
def progress(steps: int) -> Iterator[Callable[[Progress], None]]:
    """What a fit calls after each step."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines(console, steps)
        return
    columns = (
        TextColumn("{task.fields[stage]:<6}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  {task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("fit", total=steps, stage="start", facts="")
        facts = _Facts()
        yield lambda now: bar.update(task, completed=now.step, stage=now.stage, facts=facts(now))


class _Facts:
    """``loss 0.412  24.4M of 24.2M FLOP/s  eer 7.72``, with a running mean of the loss.

    Metrics are marked as the original's until the fit measures others.
    """

    def __init__(self) -> None:
        self.loss: float | None = None
        self.original: dict[str, float] | None = None

    def __call__(self, now: Progress) -> str:
        self.loss = now.loss if self.loss is None else 0.9 * self.loss + 0.1 * now.loss
        metrics = dict(now.metrics)
        self.original = metrics if self.original is None else self.original
        named = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:3])
        if named and metrics == self.original:
            named = f"(original: {named})"
        return "  ".join(filter(None, [f"loss {self.loss:.4f}", _of(now), named]))


def _of(now: Progress) -> str:
    """``24.4M of 24.2M FLOP/s``; where the budget is of something else, both that and the FLOP/s."""
    text = now.quantity.text
    if now.quantity.name == "flops":
        return f"{human(now.cost)} of {text(now.target)}"
    return f"{text(now.cost)} of {text(now.target)}  {human(now.flops)} FLOP/s"


class _Lines:
    """One line at the start of each stage, every N steps, and at the end."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.every = console, max(1, steps // LINES)
        self.started, self.stage, self.facts = time.perf_counter(), "", _Facts()

    def __call__(self, now: Progress) -> None:
        facts = self.facts(now)
        if now.stage == self.stage and now.step % self.every and now.step < now.steps:
            return
        self.stage = now.stage
        left = (time.perf_counter() - self.started) / max(now.step, 1) * (now.steps - now.step)
        width = len(str(now.steps))
        line = f"step {now.step:>{width}}/{now.steps}  {now.stage:<5}  {facts}  {left:.0f} s left"
        self.console.print(line, soft_wrap=True, markup=False)
