"""Unification of axes: two axes that an operator forces to agree are made the same, or frozen with the reason.

Label = Label merges groups; Label = Product or Sum refines the label by substitution; Product = Product and Sum = Sum take
the common refinement. Knows no tensor library and no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from shrinkspeech.axes.algebra import (
    Axis,
    Fixed,
    Label,
    Product,
    Sum,
    concat,
    factors_of,
    labels_of,
    product,
    terms_of,
    width,
)


class Unifier:
    """Makes axes agree. Owns the substitution (label → axis), the frozen labels with their reasons, and smallest widths."""

    def __init__(self) -> None:
        self._bound: dict[int, Axis] = {}
        self._frozen: dict[int, str] = {}
        self._lowest: dict[int, int] = {}
        self._next = 0

    def fresh(self, size: int) -> Axis:
        """A new label; an axis of one or no element has nothing to remove and is ``Fixed``."""
        if size <= 1:
            return Fixed(size)
        self._next += 1
        return Label(self._next, size)

    def resolve(self, axis: Axis) -> Axis:
        """``axis`` with every bound label replaced by what it is bound to, in normal form."""
        match axis:
            case Label(id=key):
                target = self._bound.get(key)
                if target is None:
                    return axis
                resolved = self.resolve(target)
                self._bound[key] = resolved
                return resolved
            case Product(factors=parts):
                return product(*(self.resolve(part) for part in parts))
            case Sum(terms=parts):
                return concat(*(self.resolve(part) for part in parts))
        return axis

    def frozen(self, label: Label) -> str | None:
        """Why ``label`` may not shrink, or None where it may."""
        return self._frozen.get(label.id)

    def freeze(self, axis: Axis, why: str) -> None:
        """Forbid removing any unit of ``axis``. The first reason given is the one kept."""
        for label in labels_of(self.resolve(axis)):
            self._frozen.setdefault(label.id, why)

    def lowest(self, label: Label) -> int:
        """How many units of ``label`` must stay."""
        return self._lowest.get(label.id, 1)

    def at_least(self, axis: Axis, count: int) -> None:
        """Demand that ``count`` elements of ``axis`` stay, whatever else goes: its largest labels answer for it."""
        axis = self.resolve(axis)
        for label in sorted(labels_of(axis), key=lambda label: -label.size):
            while width(axis, self.lowest) < count and self.lowest(label) < label.size:
                self._lowest[label.id] = self.lowest(label) + 1

    def fix(self, axis: Axis, why: str) -> Axis:
        """As ``freeze``, for an axis that never was a set of channels (a kernel's taps): a lone label is no group."""
        axis = self.resolve(axis)
        if isinstance(axis, Label):
            self._bound[axis.id] = Fixed(axis.size, why)
            return Fixed(axis.size, why)
        self.freeze(axis, why)
        return axis

    def unify(self, a: Axis, b: Axis, why: str) -> None:
        """Make ``a`` and ``b`` the same axis; where that cannot be, freeze both with the reason ``why``."""
        a, b = self.resolve(a), self.resolve(b)
        if a == b:
            return
        if a.size != b.size:
            self._give_up(a, b, why=f"{why} (sizes {a.size} and {b.size} differ)")
        elif isinstance(a, Fixed) or isinstance(b, Fixed):
            fixed = a if isinstance(a, Fixed) else b
            self._give_up(a, b, why=(isinstance(fixed, Fixed) and fixed.why) or why)
        elif isinstance(a, Label):
            self._bind(a, b, why)
        elif isinstance(b, Label):
            self._bind(b, a, why)
        elif isinstance(a, Product) and isinstance(b, Product):
            self._refine(a, b, why)
        else:
            self._align(a, b, why)

    def split(self, axis: Axis, sizes: Sequence[int], why: str) -> list[Axis]:
        """Factors of ``axis`` with the given sizes, row-major (a view of one axis as several)."""
        rest, parts = axis, []
        for position, size in enumerate(sizes):
            if position == len(sizes) - 1:
                parts.append(rest)
                break
            pair = self._split_front(rest, size)
            if pair is None:
                self.freeze(axis, why)
                return [Fixed(size, why) for size in sizes]
            parts.append(pair[0])
            rest = pair[1]
        return [self.resolve(part) for part in parts]

    def cut(self, axis: Axis, sizes: Sequence[int], why: str) -> list[Axis]:
        """Terms of ``axis`` with the given sizes, side by side (split, chunk, slice)."""
        rest, parts = axis, []
        for size in sizes:
            pair = self._cut_front(rest, size)
            if pair is None:
                self.freeze(axis, why)
                return [Fixed(size, why) for size in sizes]
            parts.append(pair[0])
            rest = pair[1]
        return [self.resolve(part) for part in parts]

    def _give_up(self, *axes: Axis, why: str) -> None:
        for axis in axes:
            self.freeze(axis, why)

    def _bind(self, label: Label, axis: Axis, why: str) -> None:
        if any(inner.id == label.id for inner in labels_of(axis)):
            self._give_up(label, axis, why=why)
            return
        self._bound[label.id] = axis
        reason = self._frozen.pop(label.id, None)
        if reason is not None:
            self.freeze(axis, reason)
        self.at_least(axis, self._lowest.pop(label.id, 1))

    def _refine(self, a: Axis, b: Axis, why: str) -> None:
        """Common refinement of two products: factors are matched from the front."""
        while True:
            a, b = self.resolve(a), self.resolve(b)
            size = min(factors_of(a)[0].size, factors_of(b)[0].size)
            if size == a.size:
                self.unify(a, b, why)
                return
            front_a, front_b = self._split_front(a, size), self._split_front(b, size)
            if front_a is None or front_b is None:
                self._give_up(a, b, why=why)
                return
            self.unify(front_a[0], front_b[0], why)
            a, b = front_a[1], front_b[1]

    def _align(self, a: Axis, b: Axis, why: str) -> None:
        """Common refinement of two axes of which one is a sum: cut both at the same places."""
        while True:
            a, b = self.resolve(a), self.resolve(b)
            sizes = [terms_of(side)[0].size for side in (a, b) if isinstance(side, Sum)]
            if not sizes:
                self.unify(a, b, why)
                return
            front_a, front_b = self._cut_front(a, min(sizes)), self._cut_front(b, min(sizes))
            if front_a is None or front_b is None:
                self._give_up(a, b, why=why)
                return
            self.unify(front_a[0], front_b[0], why)
            a, b = front_a[1], front_b[1]

    def _split_front(self, axis: Axis, size: int) -> tuple[Axis, Axis] | None:
        """``axis`` as (a factor of ``size`` elements, the rest), refining labels; None where it cannot be."""
        axis = self.resolve(axis)
        if size <= 0 or axis.size % size:
            return None
        head, *tail = factors_of(axis)
        if head.size == size:
            return head, product(*tail)
        if size == 1:
            return Fixed(1), axis
        if size % head.size == 0 and tail:
            inner = self._split_front(product(*tail), size // head.size)
            return None if inner is None else (product(head, inner[0]), inner[1])
        if head.size % size:
            return None
        halves = self._halve(head, size)
        return None if halves is None else (halves[0], self.resolve(product(halves[1], *tail)))

    def _halve(self, factor: Axis, size: int) -> tuple[Axis, Axis] | None:
        """One factor as a product of ``size`` and the rest."""
        rest = factor.size // size
        match factor:
            case Fixed(why=why):
                return Fixed(size, why), Fixed(rest, why)
            case Label():
                pair = self.fresh(size), self.fresh(rest)
                self._bind(factor, product(*pair), "")
                return pair
            case Sum():
                parts = self._equal_parts(factor, size)
                return None if parts is None else (Fixed(size, "parts that are addressed one by one"), parts)
        return None

    def _equal_parts(self, axis: Axis, count: int) -> Axis | None:
        """The one axis that each of ``count`` equal parts of ``axis`` is made to be."""
        parts, rest = [], axis
        for _ in range(count):
            pair = self._cut_front(rest, axis.size // count)
            if pair is None:
                return None
            parts.append(pair[0])
            rest = pair[1]
        for part in parts[1:]:
            self.unify(parts[0], part, "parts viewed as one axis")
        return self.resolve(parts[0])

    def _cut_front(self, axis: Axis, size: int) -> tuple[Axis, Axis] | None:
        """``axis`` as (its first ``size`` elements, the rest), refining labels; None where it cannot be."""
        axis = self.resolve(axis)
        if not 0 <= size <= axis.size:
            return None
        if size == 0:
            return Fixed(0), axis
        if size == axis.size:
            return axis, Fixed(0)
        head, *tail = terms_of(axis)
        if head.size <= size:
            inner = self._cut_front(concat(*tail), size - head.size)
            return None if inner is None else (concat(head, inner[0]), inner[1])
        pieces = self._cut_term(head, size)
        return None if pieces is None else (pieces[0], self.resolve(concat(pieces[1], *tail)))

    def _cut_term(self, term: Axis, size: int) -> tuple[Axis, Axis] | None:
        """One term as a sum of ``size`` and the rest."""
        match term:
            case Fixed(why=why):
                return Fixed(size, why), Fixed(term.size - size, why)
            case Label():
                # A piece of one element is still a unit of its own here: it may be closed with the label it meets.
                pair = self._piece(size), self._piece(term.size - size)
                self._bind(term, concat(*pair), "")
                return pair
            case Product(factors=(head, *tail)):
                rest = product(*tail)
                if size % rest.size:
                    return None
                halves = self._cut_front(head, size // rest.size)
                return None if halves is None else (product(halves[0], rest), product(halves[1], rest))
        return None

    def _piece(self, size: int) -> Axis:
        self._next += 1
        return Label(self._next, size)
