"""What labelling finds: groups of units, and for every node its effect in axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property

from shrinkspeech.axes import algebra
from shrinkspeech.axes.algebra import Axes, Axis, Label, Product, Sum, labels_of
from shrinkspeech.defaults import MIN_WIDTH
from shrinkspeech.rules.registry import Effect


@dataclass(frozen=True)
class Carrier:
    """One axis of a parameter, buffer or constant that carries a group."""

    parameter: str
    dim: int


@dataclass(frozen=True)
class Group:
    """Everything tied to one label.

    ``frozen`` is the reason why no unit may be removed, or empty; ``where`` is the user's module that computes it.
    """

    name: str
    label: Label
    frozen: str = ""
    where: str = ""
    carriers: tuple[Carrier, ...] = ()
    min_width: int = 1

    @property
    def size(self) -> int:
        return self.label.size

    @property
    def shrinkable(self) -> bool:
        return not self.frozen and self.size > self.min_width


@dataclass(frozen=True)
class Groups:
    """The labelled graph: groups by name, axes of every tensor, and the effect of every node (by node name)."""

    by_name: Mapping[str, Group]
    axes: Mapping[str, tuple[Axes, ...]]
    effects: Mapping[str, Effect]
    parameters: Mapping[str, Axes]
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Nodes whose operator has no rule, with the operator's name."""
    uncounted: Mapping[str, str] = field(default_factory=dict)
    """Of these the ones whose cost nobody can count: the operators that may hide a contraction, and where they stand."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """What ``uncounted`` says, each once: no FLOP/s has it."""
        return tuple(dict.fromkeys(self.uncounted.values()))

    def __iter__(self) -> Iterator[Group]:
        return iter(self.by_name.values())

    def __getitem__(self, name: str) -> Group:
        return self.by_name[name]

    def __len__(self) -> int:
        return len(self.by_name)

    @property
    def shrinkable(self) -> tuple[Group, ...]:
        """Groups whose width may change."""
        return tuple(group for group in self if group.shrinkable)

    def of(self, label: Label) -> Group:
        """The group of a label."""
        return self._by_label[label.id]

    @cached_property
    def _by_label(self) -> dict[int, Group]:
        return {group.label.id: group for group in self}

    def moves(self, axis: Axis) -> bool:
        """Whether any group on ``axis`` may shrink."""
        return any(self.of(label).shrinkable for label in labels_of(axis))

    def kept_index(self, axis: Axis, kept: Mapping[str, Sequence[int]]) -> list[int]:
        """Positions of ``axis`` that remain; a group that ``kept`` does not name is whole."""
        return algebra.kept_index(axis, lambda label: kept.get(self.of(label).name, range(label.size)))

    def size_of(self, axis: Axis, widths: Mapping[str, int]) -> int:
        """Elements that remain on ``axis`` at integer widths."""
        return int(algebra.width(axis, lambda label: widths.get(self.of(label).name, label.size)))

    def narrowed(self, kept: Mapping[str, Sequence[int]]) -> Groups:
        """The groups of the graph that is sliced to ``kept``: the same names and ties, smaller sizes."""

        def small(axis: Axis) -> Axis:
            match axis:
                case Label(id=key):
                    units = kept.get(self.of(axis).name)
                    return axis if units is None else Label(key, len(units))
                case Product(factors=parts):
                    return Product(tuple(small(part) for part in parts))
                case Sum(terms=parts):
                    return Sum(tuple(small(part) for part in parts))
            return axis

        def group(old: Group) -> Group:
            size = len(kept.get(old.name, range(old.size)))
            return replace(old, label=Label(old.label.id, size), min_width=min(old.min_width, size))

        return Groups(
            by_name={name: group(old) for name, old in self.by_name.items()},
            axes={name: tuple(tuple(map(small, axes)) for axes in parts) for name, parts in self.axes.items()},
            effects={name: effect.mapped(small) for name, effect in self.effects.items()},
            parameters={name: tuple(map(small, axes)) for name, axes in self.parameters.items()},
            unknown=self.unknown,
            uncounted=self.uncounted,
        )

    def restrict(self, only: Sequence[str] = (), exclude: Sequence[str] = (), min_width: int = MIN_WIDTH) -> Groups:
        """Freeze what the user does not want shrunk, by glob patterns over module and group names."""

        def decide(group: Group) -> Group:
            names = {group.name, group.where, *(carrier.parameter for carrier in group.carriers)}
            matched: Callable[[Sequence[str]], bool] = lambda globs: any(fnmatch(n, g) for n in names for g in globs)  # noqa: E731
            reason = group.frozen
            if not reason and exclude and matched(exclude):
                reason = "excluded by --exclude"
            if not reason and only and not matched(only):
                reason = "not named by --only"
            return replace(group, frozen=reason, min_width=min(max(group.min_width, min_width), group.size))

        return replace(self, by_name={name: decide(group) for name, group in self.by_name.items()})
