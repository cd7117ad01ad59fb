"""FastNAS of NVIDIA ModelOpt 0.47 (``modelopt.torch.prune``, mode ``fastnas``): a search by evaluation of subnets.

It measures for every layer by itself how much a score falls at each of 20 widths, and then searches the largest fall to allow
so that the constraint is met. Its own FLOP counter needs a further package and does not know recurrent layers, so our scale
stands in for it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.quality.peers.flops import Meter
from benchmarks.quality.peers.tuning import CALIBRATION, Data, Unsupported, finetune

ROUNDS = 6
"""Searches at most: its limit is approximate, and is aimed at again where the result is above the target."""


DIVISORS = (1, 2)
"""Channels are multiples of this; the second where the search fails, as it does on a depthwise layer cut to one channel."""


def shrink(model: nn.Module, recipe: Any, target: float, steps: int, rate: float, seed: int) -> nn.Module:
    """Search a subnet within the target and fine-tune it.

    Raises:
        Unsupported: it cannot read the model, or finds no subnet within the target.
    """
    data, meter = Data(recipe, seed), Meter(model, recipe)
    batches = [data.next() for _ in range(CALIBRATION)]

    def score(candidate: nn.Module) -> float:
        candidate.eval()
        with torch.no_grad():
            return -sum(float(data.loss(candidate, batch)) for batch in batches) / len(batches)

    for divisor in DIVISORS:
        try:
            found = _within(model, data, meter, batches, score, target, divisor)
        except Unsupported:
            if divisor == DIVISORS[-1]:
                raise
        else:
            break
    return finetune(found, data, steps, rate)


def _within(
    model: nn.Module, data: Data, meter: Meter, batches: list[Any], score: Any, target: float, divisor: int
) -> nn.Module:
    """The subnet of the first search that ends within the target."""
    aim, share = target, 1.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            found = _search(model, data, meter, batches, score, aim, Path(folder) / "search.pth", divisor)
            share = meter.exact(found)
            if share <= target:
                return found
            aim *= 0.995 * target / share
    raise Unsupported(f"FastNAS stops at {share:.1%} of the FLOP/s, above the target of {target:.1%}")


def _search(
    model: nn.Module,
    data: Data,
    meter: Meter,
    batches: list[Any],
    score: Any,
    aim: float,
    checkpoint: Path,
    divisor: int,
) -> nn.Module:
    """One search for ``aim`` × the original's FLOP/s; scores of layers are kept in ``checkpoint``."""
    import modelopt.torch.nas.algorithms as algorithms
    import modelopt.torch.prune as mtp

    found = None
    with (
        patch.object(algorithms, "inference_flops", lambda network, **options: meter.original * meter.share(network)),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            found, _ = mtp.prune(
                copy.deepcopy(model).eval().requires_grad_(True),
                mode=[("fastnas", _config(divisor))],
                constraints={"flops": aim * meter.original},
                dummy_input=data.recipe.example_inputs(),
                config={
                    "data_loader": batches,
                    "collect_func": data.arguments,
                    "score_func": score,
                    "checkpoint": str(checkpoint),
                    "verbose": False,
                },
            )
        except Exception as error:
            raise Unsupported(f"FastNAS fails with {type(error).__name__}: {_gist(str(error))}") from error
    return found.eval().requires_grad_(True)


def _gist(message: str) -> str:
    """The last line of a message, and the smallest and largest subnet where a table of them is in it."""
    lines = [line for line in map(str.strip, message.splitlines()) if line]
    smallest = re.search(r"flops\W+([\d.]+\w?)\W+[\d.]+\w?\W+([\d.]+\w?)", message)
    bounds = f" (from {smallest[1]} to {smallest[2]} FLOP/s)" if smallest else ""
    return (lines[-1].removesuffix(", see above!") if lines else "") + bounds


def _config(divisor: int) -> dict[str, Any]:
    """The default widths (5 %, 10 %, … of the channels), with channels in multiples of ``divisor`` instead of 32."""
    from modelopt.torch.prune.fastnas import FastNASConfig

    config = FastNASConfig().model_dump()
    for rules in config.values():
        for rule in rules.values() if isinstance(rules, dict) else ():
            for key in rule or ():
                if key.endswith("_divisor"):
                    rule[key] = divisor
    return config
