"""Which of several processes this one is, as ``torchrun``, ``accelerate launch`` and ``mpirun`` say it. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
LOCAL = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
HERE = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
"""Names that the launchers give to the number of this process, how many there are, and both for this machine."""


def rank() -> int:
    """The number of this process, from 0; 0 where there is one alone."""
    return _number(RANK, 0) if size() > 1 else 0


def rank_here() -> int:
    """The number of this process among those of this machine."""
    return _number(LOCAL, 0) if size() > 1 else 0


def size() -> int:
    """How many processes work on one model."""
    return max(1, _number(SIZE, 1))


def on_this_machine() -> int:
    """How many of them share this machine."""
    return max(1, _number(HERE, 1)) if size() > 1 else 1


def started_alone(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ``accelerate launch`` was asked for several processes and started one: so it does on a CPU without mpirun."""
    return (
        "ACCELERATE_MIXED_PRECISION" in environment
        and "MASTER_PORT" in environment
        and size() == 1
        and not any(name in environment for name in (*RANK, *SIZE))
    )


def cut(rows: int, count: int) -> list[tuple[int, int]]:
    """Start and end of each process's part of some rows: as many as any other has, or one fewer."""
    ends = [rows * number // count for number in range(count + 1)]
    return list(pairwise(ends))


def _number(names: Sequence[str], default: int) -> int:
    found = [os.environ[name] for name in names if os.environ.get(name, "").strip().isdigit()]
    return int(found[0]) if found else default
