"""The processes that fit one model together, and what they tell each other. One process alone tells nobody anything."""

from __future__ import annotations

import base64
import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from shrinkspeech import processes
from shrinkspeech.errors import ProcessError, ShrinkSpeechError

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""So long the others wait for what the first process does alone, such as an evaluation. If it dies, its launcher ends them."""

POLITENESS = timedelta(seconds=3)
"""So long a process waits whether the first says what it would say itself."""

_NUMBERS = itertools.count()
"""Of what the first process has told; the same in all of them, over all fits."""

SIGNS = (
    "gloo",
    "NCCL",
    "ProcessGroup",
    "Connection closed",
    "Connection reset",
    "DistStore",
    "TCPStore",
    "Broken pipe",
)
"""What messages of torch hold when another process is gone."""


class Team:
    """All processes of a fit.

    Attributes:
        rank: the number of this one; 0 is the first, which alone writes and reports.
        size: how many there are.
        device: where tensors go that are sent.
        moved: bytes of the tensors that this process has given to the others so far.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)
        self.moved = 0

    @classmethod
    def of_launcher(cls) -> Team:
        """The processes that ``torchrun`` or ``accelerate launch`` has started; Accelerate brings them together."""
        if processes.size() == 1:
            return cls()
        from accelerate import PartialState

        with _rough_edges():
            state = PartialState(cpu=not torch.accelerator.is_available())
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def leads(self) -> bool:
        """Whether this is the first process, or the only one."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    # -- tensors --------------------------------------------------------------------------------------------------

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, on the device of ``x``."""
        if self.alone:
            return x
        total = x.detach().to(self.device, copy=True).contiguous()
        self.moved += total.nbytes
        dist.all_reduce(total)
        return total.to(x.device)

    def most(self, number: int) -> int:
        """The largest number that any process has."""
        if self.alone:
            return number
        found = torch.tensor(number, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def gather(self, x: Tensor, dim: int, extents: list[int]) -> Tensor:
        """The parts of all processes side by side; each process may have another extent of ``dim``."""
        first = x.detach().to(self.device).movedim(dim, 0)
        if first.is_complex():
            return torch.view_as_complex(self.gather(torch.view_as_real(x.detach().resolve_conj()), dim, extents))
        own = first.new_zeros(max(extents), *first.shape[1:])
        own[: len(first)] = first
        sent = own.to(torch.uint8) if own.dtype == torch.bool else own
        parts = [torch.empty_like(sent) for _ in extents]
        self.moved += sent.nbytes
        dist.all_gather(parts, sent)
        whole = torch.cat([part[:extent] for part, extent in zip(parts, extents, strict=True)])
        return whole.to(x.dtype).movedim(0, dim).to(x.device)

    def take_from_first(self, x: Tensor) -> None:
        """Overwrite a tensor with that of the first process."""
        if self.alone:
            return
        sent = x.detach().to(self.device).contiguous()
        self.moved += sent.nbytes if self.leads else 0
        dist.broadcast(sent, 0)
        x.detach().copy_(sent)

    # -- anything else --------------------------------------------------------------------------------------------

    def first(self, work: Callable[[], T]) -> T:
        """What a piece of work gives that the first process does for all; the others wait, however long it takes.

        Raises:
            ShrinkSpeechError: the work has raised it, in every process.
            ProcessError: it has raised another error, which the first process itself raises.
        """
        if self.alone:
            return work()
        key = f"shrinkspeech/{next(_NUMBERS)}"
        store = dist.distributed_c10d._get_default_store()
        if self.leads:
            try:
                result = work()
            except BaseException as error:
                told = error if isinstance(error, ShrinkSpeechError) else ProcessError(f"process 0 failed: {error}")
                store.set(key, _written((False, told)))
                raise
            store.set(key, _written((True, result)))
            return result
        store.wait([key], PATIENCE)
        done, value = pickle.loads(base64.b64decode(store.get(key)))
        if not done:
            raise value
        return value

    def all(self, value: T) -> list[T]:
        """What every process has, in the order of the processes."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around a fit: where another process has gone, it ends with a sentence.

        Raises:
            ProcessError: so it is.
        """
        try:
            yield
        except (RuntimeError, OSError) as error:
            if self.alone or not any(sign in str(error) for sign in SIGNS):
                raise
            raise ProcessError(
                f"process {self.rank} of {self.size} ends, because another one has ended: see what that one said; a fit with "
                "checkpoints goes on from the last with --resume"
            ) from error


def have_met() -> bool:
    """Whether the processes know of each other."""
    return dist.is_available() and dist.is_initialized()


def said_by_first(text: str) -> bool:
    """Whether the first process ends with the same error; it says so to the others before it ends."""
    store, key = dist.distributed_c10d._get_default_store(), "shrinkspeech/error"
    try:
        if dist.get_rank() == 0:
            store.set(key, text)
            return False
        store.wait([key], POLITENESS)
        return store.get(key).decode() == text
    except (RuntimeError, OSError):  # the first has nothing to say, or has taken the store along
        return False


def disband() -> None:
    """The processes part, once all is done."""
    if have_met():
        dist.destroy_process_group()


def _written(value: Any) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


@contextmanager
def _rough_edges() -> Iterator[None]:
    """Accelerate warns that it sets the number of threads, which is as it should be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        yield
