"""Accelerate as a fit uses it: the device, the precision, and a model that several processes train."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from shrinkspeech.errors import InputError
from shrinkspeech.fitting.processes.team import Team
from shrinkspeech.fitting.settings import PRECISIONS

SAID = "ACCELERATE_MIXED_PRECISION"
"""Where the launcher says the precision."""

_OURS: set[str] = set()
"""Precisions of the Accelerators that fits of this process have made; it can hold one at a time."""


def accelerator_of(precision: str | None, team: Team) -> Accelerator:
    """
    Args:
        precision: ``bf16`` or ``no``; None for what the launcher says.

    Raises:
        InputError: there is no such precision, or this process has an Accelerator of another one.
    """
    if precision is not None and precision not in PRECISIONS:
        raise InputError(
            f"there is no mixed precision '{precision}': it is {' or '.join(PRECISIONS)} (small gradients are lost in fp16)"
        )
    there, wanted = AcceleratorState._shared_state.get("_mixed_precision"), precision or os.environ.get(SAID, "no")
    if there is None:
        _OURS.add(wanted)
    elif there in _OURS and there != wanted:  # what an earlier fit has left
        AcceleratorState._reset_state()
        _OURS.add(wanted)
    elif precision not in (None, there):
        raise InputError(f"this process has an Accelerator of mixed precision '{there}' already: give that, or none")
    # Some weights are reached by no output: those of a branch that is gone, and the widths while all gates are open.
    several = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    return Accelerator(mixed_precision=precision, kwargs_handlers=[] if team.alone else [several])


def prepared(accelerator: Accelerator, team: Team, model: nn.Module, optimiser: torch.optim.Optimizer) -> Any:
    """A model and its optimiser as Accelerate wraps them.

    The model keeps its own ``forward``, which train() and eval() write anew; whoever runs it says ``autocast``. Its gradients
    are the sums over all processes, each of which has those of its own rows.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=FutureWarning, message=".*broadcast_buffers"
        )  # its new name is not Accelerate's
        found: Any = accelerator.prepare(model, optimiser)
    for name in ("forward", "_original_forward"):
        model.__dict__.pop(name, None)
    if isinstance(found[0], DistributedDataParallel):
        found[0].register_comm_hook(team, lambda state, bucket: summed(state, bucket))  # torch compares types in words
    return found


def summed(team: Team, bucket: Any) -> torch.futures.Future[Tensor]:
    """The sum of some gradients over all processes, while the backward pass goes on."""
    gradients = bucket.buffer()
    team.moved += gradients.nbytes
    work: Any = dist.all_reduce(gradients, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])
