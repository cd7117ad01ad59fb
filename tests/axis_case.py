"""A unifier, and what can be asked of it, in few characters."""

from __future__ import annotations

from shrinkspeech.axes.algebra import Axis, Fixed, Label, Product, Sum, labels_of
from shrinkspeech.axes.unifier import Unifier


class Case:
    """A unifier, and what can be asked of it."""

    def __init__(self) -> None:
        self.unifier = Unifier()

    def label(self, size: int) -> Label:
        found = self.unifier.fresh(size)
        assert isinstance(found, Label)
        return found

    def now(self, axis: Axis) -> str:
        """An axis as it is now: units, × and + between, ``!`` behind what is frozen, ``[ ]`` around what is fixed."""
        return self.written(self.unifier.resolve(axis))

    def written(self, axis: Axis) -> str:
        match axis:
            case Fixed(size=size):
                return f"[{size}]"
            case Label(size=size):
                return f"{size}!" if self.unifier.frozen(axis) else str(size)
            case Product(factors=parts):
                return "×".join(f"({self.written(p)})" if isinstance(p, Sum) else self.written(p) for p in parts)
            case Sum(terms=parts):
                return "+".join(self.written(part) for part in parts)

    def same(self, a: Axis, b: Axis) -> bool:
        return self.unifier.resolve(a) == self.unifier.resolve(b)

    def reasons(self, axis: Axis) -> set[str | None]:
        return {self.unifier.frozen(label) for label in labels_of(self.unifier.resolve(axis))}
