"""How the competing methods' strengths were chosen: each value that was tried, judged on the validation split.

    python -m benchmarks.quality.strengths --data DIR            # prints the table
    python -m benchmarks.quality.strengths --data DIR --write    # and writes it into peers/settings.md

One model, one budget, one seed; the steps and the rate of the model's recipe.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.quality.cases import FIRST_SEED, NAMES, Case
from benchmarks.quality.showing import write_between

PAGE = Path(__file__).parent / "peers" / "settings.md"
Method = Callable[..., nn.Module]


@contextmanager
def constant(module: Any, name: str, value: float) -> Iterator[None]:
    """A module's constant with another value."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def with_constant(module: Any, name: str, value: float, method: Method) -> Method:
    """A method that is told another strength."""

    def shrink(*args: Any) -> nn.Module:
        with constant(module, name, value):
            return method(*args)

    return shrink


def trials() -> Iterator[tuple[str, str, Method]]:
    """Method, what was tried, and how to run it."""
    from benchmarks.quality.peers import lasso, tp

    for pull in (0.01, 0.03, 0.1, 0.3):
        yield "group-lasso", f"PULL {pull:g}", with_constant(lasso, "PULL", pull, lasso.shrink)
    variant = {name: partial(tp.shrink, found) for name, found in tp.VARIANTS.items()}
    for penalty in (5e-4, 5e-3):
        name = "tp-global-groupnorm"
        yield name, f"reg {penalty:g}", with_constant(tp, "GROUP_PENALTY", penalty, variant[name])
    for penalty in (1e-5, 1e-3):
        name = "tp-global-bn"
        yield name, f"reg {penalty:g}", with_constant(tp, "BN_PENALTY", penalty, variant[name])
    for name in ("tp-global-taylor", "tp-global-l2"):
        for alike in (True, False):
            chosen = replace(tp.VARIANTS[name], isomorphic=alike)
            yield name, "isomorphic" if alike else "not isomorphic", partial(tp.shrink, chosen)
    for share in (0.5, 0.25):
        name = "tp-global-taylor-iterative"
        text = f"prunings over {100 * share:g} % of the steps"
        yield name, text, with_constant(tp, "PRUNING_SHARE", share, variant[name])


def table(case: Case, target: float, seed: int) -> str:
    """Markdown: the metric on the validation split of each trial."""
    recipe = case.recipe
    lines = [f"| method | tried | validation {recipe.METRIC} |", "|---|---|---|"]
    for name, tried, method in trials():
        module = method(case.original(), case.shifted(), target, recipe.STEPS, recipe.RATE, seed)
        with torch.no_grad():
            value = recipe.evaluate(module.eval())[recipe.METRIC]
        lines.append(f"| `{name}` | {tried} | {value:.1f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with speech.csv and noise.csv (or set SHRINKSPEECH_DATA)")
    parser.add_argument("--model", default="tcresnet_kws", choices=NAMES)
    parser.add_argument("--target", type=float, default=0.25, help="share of the FLOP/s")
    parser.add_argument("--seed", type=int, default=0, help=f"training batches of seed {FIRST_SEED} + this")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    if options.data:
        os.environ["SHRINKSPEECH_DATA"] = options.data
    torch.set_num_threads(1)
    found = table(Case(options.model), options.target, options.seed)
    if options.write:
        steps = Case(options.model).recipe.STEPS
        head = f"`{options.model}`, {100 * options.target:g} % of the FLOP/s, {steps} steps, seed {options.seed}:"
        write_between(PAGE, f"{head}\n\n{found}")


if __name__ == "__main__":
    main()
