"""The random numbers of Python, numpy and torch: seeded together, written down and put back together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from shrinkspeech.errors import InputError


def seed_everything(seed: int) -> None:
    """Seed ``random``, numpy and torch.

    Raises:
        InputError: torch has no such seed.
    """
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"the seed {seed} is too large: give one of at most 64 bits")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Stream:
    """Random numbers of their own for who draws from those of Python, numpy and torch: it goes on where it was, whatever
    others draw in between. It starts where they are now.
    """

    def __init__(self) -> None:
        self.state = random_state(devices=False)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Inside, numbers come from here; what others draw outside stays as it was."""
        outside = random_state(devices=False)
        set_random_state(self.state)
        try:
            yield
        finally:
            self.state = random_state(devices=False)
            set_random_state(outside)


def random_state(devices: bool = True) -> dict[str, Any]:
    """Where the random numbers are, as numbers, strings and tensors alone."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [
            str(kind),
            torch.tensor(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if devices and torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the random numbers back to where ``random_state`` found them."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
