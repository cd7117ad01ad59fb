"""Options that several commands share, and the model that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.groups import Groups

_MODEL, _GROUPS = "Model", "What may shrink"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .pt2 of torch.export.save, weights (with --factory), or package.module:function (with --weights).",
        show_default=False,
    ),
]
Factory = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Function that builds the model: package.module:function or file.py:function.",
        rich_help_panel=_MODEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights for a model that is named by its factory.", rich_help_panel=_MODEL),
]
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Unpickle whole objects, which runs the code in them.", rich_help_panel=_MODEL),
]
Example = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHAPE",
        help="Shape of an input, batch first: 2x16000, 2:int64; once for each input. A .pt2 brings its own.",
        rich_help_panel=_MODEL,
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Audio in one item of the example batch; found from the length if the input is a waveform.",
        rich_help_panel=_MODEL,
    ),
]
SampleRate = Annotated[
    int, typer.Option(metavar="HZ", min=1, help="Rate of the model's waveforms.", rich_help_panel=_MODEL)
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Leave these modules or groups as they are.", rich_help_panel=_GROUPS),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Shrink these modules or groups alone.", rich_help_panel=_GROUPS),
]
MinWidth = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Units that every group keeps at least; with 0 residual branches may vanish.",
        rich_help_panel=_GROUPS,
    ),
]


@dataclass(frozen=True)
class Loaded:
    """A captured model, its groups, and the audio in one item of its example in s."""

    captured: Captured
    groups: Groups
    seconds: float


@dataclass(frozen=True)
class Source:
    """A model as the command line describes it."""

    model: str
    factory: str | None = None
    weights: Path | None = None
    trust_pickle: bool = False
    example: Sequence[str] | None = None
    seconds: float | None = None
    sample_rate: int = 16_000
    exclude: Sequence[str] | None = None
    only: Sequence[str] | None = None
    min_width: int = 1

    @property
    def has_example(self) -> bool:
        """Whether the file or ``--example`` says what the model's inputs are."""
        from shrinkspeech.loading.load import is_program

        return bool(self.example) or is_program(self.model)

    def capture(self, recipe: Recipe | None = None) -> Captured:
        """The captured model; the recipe lends its example where neither file nor ``--example`` has one."""
        from shrinkspeech.loading.load import load

        inputs = None if recipe is None or self.has_example else _example_of(recipe)
        return load(
            self.model,
            factory=self.factory,
            weights=self.weights,
            trust_pickle=self.trust_pickle,
            example=self.example,
            example_inputs=inputs,
        )

    def load(self, recipe: Recipe | None = None, captured: Captured | None = None) -> Loaded:
        """Capture (unless that has been done) and label the model."""
        from shrinkspeech.groups.label import label
        from shrinkspeech.loading.examples import seconds_of
        from shrinkspeech.surgery.depth import allow_empty, removable
        from shrinkspeech.surgery.slice import slice as slice_graph

        captured = captured or self.capture(recipe)
        seconds = seconds_of(captured, self.seconds, self.sample_rate)
        groups = label(captured)
        exclude, only = self.exclude or (), self.only or ()
        _known(groups, "--exclude", exclude)
        _known(groups, "--only", only)
        groups = groups.restrict(only=only, exclude=exclude, min_width=self.min_width)
        if self.min_width == 0:
            groups = allow_empty(groups, removable(captured, groups, slice_graph))
        return Loaded(captured, groups, seconds)


def _example_of(recipe: Recipe) -> tuple[Any, ...]:
    """The recipe's example, or the first two items of its first batch."""
    if recipe.example_inputs is not None:
        return recipe.example_inputs()
    return tuple(value[:2] if value.dim() else value for value in recipe.inputs(recipe.peek()))


def _known(groups: Groups, option: str, globs: Sequence[str]) -> None:
    """Refuse a pattern that names nothing: it is a slip of the pen.

    Raises:
        InputError: a pattern matches no group.
    """
    from shrinkspeech.errors import InputError

    names = {name for group in groups for name in (group.name, group.where, *(c.parameter for c in group.carriers))}
    for glob in globs:
        if not any(fnmatch(name, glob) for name in names):
            raise InputError(f"{option} {glob} matches no group: 'shrinkspeech inspect' lists them")
