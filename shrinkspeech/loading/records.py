"""The JSON files of a run, held to what a fit writes: types, signs and sizes. Entries of later versions may be there too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from shrinkspeech.errors import InputError

Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Metrics = dict[str, Annotated[float, Field(allow_inf_nan=True)]]
Rate = Annotated[int, Field(gt=0, le=10_000_000)]
Seconds = Annotated[float, Field(gt=0, le=1e6)]

LARGEST = 256 << 20
"""Bytes of such a file; that of a model of a million units has about ten million."""


class Record(BaseModel):
    """Numbers are numbers, not texts; none is infinite."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


class Reached(Record):
    """What the budget was of, and what it came to."""

    quantity: str
    unit: str
    original: Amount
    target: Amount
    reached: Amount


class State(Record):
    """A state of a streaming model: its shape in the original, and now."""

    input: str
    output: str
    original: tuple[Count, ...]
    shape: tuple[Count, ...]


class Report(Record):
    """``report.json``."""

    original_flops: Amount
    target_flops: Amount | None = None
    flops: Amount
    budget: Reached
    original_params: Count
    params: Count
    metrics_before: Metrics
    metrics_after: Metrics
    seconds: Seconds
    steps: Count
    seed: int
    duration: Amount
    loss: float | None = None
    skipped: Count = 0
    returns: Count = 0
    uncounted: tuple[str, ...] = ()
    unevaluated: str | None = None
    states: tuple[State, ...] = ()


class Width(Record):
    """Units of the original that remain of a group."""

    width: Count
    units: tuple[Count, ...]

    @model_validator(mode="after")
    def _in_order(self) -> Width:
        if len(self.units) != self.width or list(self.units) != sorted(set(self.units)):
            raise ValueError(
                f"{self.width} units are said, and {len(self.units)} listed, or they are not in their order"
            )
        return self


class Widths(RootModel[dict[str, Width]]):
    """``widths.json``."""

    model_config = ConfigDict(strict=True, frozen=True)


class Origin(Record):
    """``origin.json``."""

    source: str
    factory: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    budget: str
    version: str
    sample_rate: Rate | None = None
    processor: dict[str, Any] | None = None


class Task(Record):
    """``task.json``."""

    task: str
    labels: tuple[str, ...]
    features: str | None = None
    sample_rate: Rate | None = None
    seconds: Annotated[float, Field(ge=0, le=1e6)]
    notes: tuple[str, ...] = ()


R = TypeVar("R", bound=BaseModel)


def read_record(file: Path, kind: type[R]) -> R:
    """A file of a run.

    Raises:
        InputError: it is not what a fit writes; the message names the file, the entry and what is wrong with it.
    """
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file} has more than {LARGEST:,} bytes, which no fit writes: run 'shrinkspeech fit' again")
    try:
        return kind.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise InputError(f"{file} is not what a fit writes ({what}): run 'shrinkspeech fit' again") from error
