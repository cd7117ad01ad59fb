"""Batches, in order, from as many worker processes as wanted: the same ones for every number of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from shrinkspeech.data.checking import Faults
from shrinkspeech.data.items import Batch, Items, Key, collate


def endless(visits: Sequence[int], batch_size: int, seed: int) -> Iterator[list[Key]]:
    """Keys of training batches: every row as often as it has visits, in a new order each time, without an end."""
    position, keys, rows = 0, [], np.repeat(np.arange(len(visits)), visits)
    for epoch in range(2**31):
        for row in np.random.default_rng([seed, epoch]).permutation(rows):
            keys.append((position, int(row)))
            position += 1
            if len(keys) == batch_size:
                yield keys
                keys = []


def in_pairs(labels: Sequence[str | None], batch_size: int, seed: int) -> Iterator[list[Key]]:
    """Keys of training batches in which rows of one label come two by two, in a new order each time, without an end.

    Every row comes once; the last of an odd number of rows comes with another one again, and an only one alone.
    """
    rows: dict[str | None, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    position, keys = 0, []
    for epoch in range(2**31):
        rng = np.random.default_rng([seed, epoch])
        mixed = [rng.permutation(same).tolist() for same in rows.values()]
        even = [[*same, same[0]] if len(same) % 2 and len(same) > 1 else same for same in mixed]
        pairs = [same[start : start + 2] for same in even for start in range(0, len(same), 2)]
        for pair in rng.permutation(len(pairs)):
            for row in pairs[pair]:
                keys.append((position, row))
                position += 1
                if len(keys) == batch_size:
                    yield keys
                    keys = []


def once(rows: int, batch_size: int, most: int, *, whole: bool = False) -> list[list[Key]]:
    """Keys of validation batches: up to ``most`` rows, evenly spread; ``whole`` leaves out a smaller last batch."""
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(int)).tolist()
    keys = [(position, row) for position, row in enumerate(chosen)]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return [batch for batch in batches if len(batch) == batch_size or not whole]


class _Keys(Iterable[list[Key]]):
    """What a DataLoader asks for as its batch sampler."""

    def __init__(self, batches: Iterable[list[Key]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


def load(items: Items, batches: Iterable[list[Key]], workers: int, faults: Sequence[Faults]) -> Iterator[Batch]:
    """Batches in the order of their keys.

    Args:
        workers: processes; 0 prepares batches in this one.
        faults: where broken clips are counted, one for each manifest.

    Raises:
        AudioError: more than one in a hundred clips of a manifest is broken.
    """
    counters = {counter.name: counter for counter in faults}
    loader: Any = DataLoader(
        items,
        batch_sampler=_Keys(batches),
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=2 if workers else None,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
        stream = iter(loader)
    for batch, found in _one_thread(stream) if not workers else stream:
        for name, fault in found:
            counters[name].add([fault])
        yield batch


def _one_thread(stream: Iterator[Any]) -> Iterator[Any]:
    """As a worker process does it: sums in features do not depend on the number of threads."""
    while True:
        with _threads(1):
            try:
                value = next(stream)
            except StopIteration:
                return
        yield value


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
