"""What a budget can limit (``Quantity``, registered by its name), and a budget as its user wrote it (``Target``).

The files that register quantities import torch inside their methods alone: the command line lists its ``--target-…``
options without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, TypeVar

from shrinkspeech.budget.amounts import human, read
from shrinkspeech.errors import BudgetError

if TYPE_CHECKING:
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.cost import Expression
    from shrinkspeech.groups.groups import Groups


class Quantity(ABC):
    """Something that a budget can limit: the class says how it is written, an instance what it is in one model.

    Attributes:
        name: in options (``--target-NAME``, ``target_NAME``) and reports.
        unit: what an amount of 1 is.
        units: what may stand behind a number, and how much it is worth.
        example: amounts for messages.
        help: what a target may be, in half a sentence for ``--help``.
        per_item: whether it is that of one item, so that an amount means nothing where the batch cannot be told.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    units: ClassVar[Mapping[str, float]]
    example: ClassVar[str]
    help: ClassVar[str]
    per_item: ClassVar[bool] = True

    def __init__(self, captured: Captured, groups: Groups, seconds: float = 1.0) -> None:
        """Of a labelled model.

        Args:
            seconds: audio that one item of the example batch holds, in s.
        """
        self.captured, self.groups, self.seconds = captured, groups, seconds

    @abstractmethod
    def cost(self) -> Expression:
        """The quantity at any widths of the groups that may shrink: a polynomial, or the largest of several."""

    def measure(self, small: Captured) -> float | None:
        """The quantity of a sliced model, where the cost is only near it; None where it is exact."""
        return None

    @property
    def full(self) -> dict[str, int]:
        """The size of every group that may shrink."""
        return {group.name: group.size for group in self.groups.shrinkable}

    @cached_property
    def original(self) -> float:
        """The quantity of the whole model."""
        found = self.measure(self.captured)
        return self.cost().at(self.full) if found is None else found

    @classmethod
    def text(cls, amount: float) -> str:
        """An amount with its unit: ``24.4M FLOP/s``."""
        return f"{human(amount)} {cls.unit}"

    @classmethod
    def parse(cls, text: str | float) -> Target:
        """Read a share (``25%``, ``0.25x``) or an amount in this quantity's units.

        Raises:
            BudgetError: it is neither, or not positive.
        """
        given, found = str(text).strip(), read(text, cls.units)
        if found is None:
            raise BudgetError(
                f"cannot read the target '{given}': write a share (25% or 0.25x) or an amount ({cls.example})"
            )
        return Target(cls, given, *found)

    @classmethod
    def limit(cls, text: str, option: str) -> float:
        """Read an amount for an option that knows no original which it could be a share of.

        Raises:
            BudgetError: it is a share, or no positive amount.
        """
        found = read(text, cls.units)
        if found is None:
            raise BudgetError(f"cannot read {option} '{text}': write an amount ({cls.example})")
        value, relative = found
        if relative:
            raise BudgetError(f"{option} {text} is a share, of what is not known here: write an amount ({cls.example})")
        return value


@dataclass(frozen=True)
class Target:
    """A budget as the user wrote it: a share of the original where ``relative``, else an amount."""

    quantity: type[Quantity]
    text: str
    value: float
    relative: bool

    def __str__(self) -> str:
        return self.text if self.quantity.name == "flops" else f"{self.text} of {self.quantity.name}"

    def amount(self, original: float) -> float:
        """The budget as an amount.

        Raises:
            BudgetError: it is above what the original has.
        """
        amount = self.value * original if self.relative else self.value
        if amount > original * (1 + 1e-9):
            raise BudgetError(
                f"the target {self.text} is above the original's {self.quantity.text(original)}: nothing has to shrink"
            )
        return amount


Kind = TypeVar("Kind", bound=type[Quantity])
_QUANTITIES: dict[str, type[Quantity]] = {}


def quantity(kind: Kind) -> Kind:
    """Register a quantity under its name. A second one of that name raises."""
    if kind.name in _QUANTITIES:
        raise ValueError(f"there is a quantity '{kind.name}' already ({_QUANTITIES[kind.name].__name__})")
    _QUANTITIES[kind.name] = kind
    return kind


def quantities() -> dict[str, type[Quantity]]:
    """Every quantity, by name, in the order of registration."""
    return dict(_QUANTITIES)


def quantity_named(name: str) -> type[Quantity]:
    """The quantity of a name.

    Raises:
        BudgetError: there is none.
    """
    if name not in _QUANTITIES:
        raise BudgetError(f"a budget cannot be of '{name}': choose one of {', '.join(_QUANTITIES)}")
    return _QUANTITIES[name]


def only_target(given: Mapping[str, str | float | None]) -> Target:
    """The one target among those given, by name of the quantity; what is None has not been given.

    Raises:
        BudgetError: there is none, or more than one, it cannot be read, or there is no such quantity.
    """
    chosen = {quantity_named(name): text for name, text in given.items() if text is not None}
    if len(chosen) != 1:
        raise BudgetError(f"give exactly one target of {', '.join(_QUANTITIES)} (such as --target-flops 25%)")
    [(kind, text)] = chosen.items()
    return kind.parse(text)
