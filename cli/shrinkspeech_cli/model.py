"""The model that a command is about: where it comes from, how long its audio is, and what of it may shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from shrinkspeech.defaults import MIN_WIDTH, SAMPLE_RATE
from shrinkspeech_cli.options import option
from shrinkspeech_cli.status import doing

if TYPE_CHECKING:
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.groups import Groups
    from shrinkspeech.loading.processors import Folder


@dataclass(frozen=True)
class Loading:
    """How a model is made of what its file holds."""

    panel: ClassVar[str] = "Model"

    factory: Annotated[
        str | None,
        option(
            "Function that builds the model: package.module:function or file.py:Class(channels=8), in quotes.",
            metavar="MODULE:FUNCTION",
        ),
    ] = None
    factory_args: Annotated[
        Path | None, option("YAML or JSON with the arguments of the factory, by their names.", metavar="FILE")
    ] = None
    weights: Annotated[Path | None, option("Weights, where MODEL names the factory.", metavar="FILE")] = None
    trust_pickle: Annotated[bool, option("Unpickle whole objects. This runs the code in them.", "--trust-pickle")] = (
        False
    )
    example: Annotated[
        list[str] | None,
        option(
            "Shape of an input, batch first, once for each input: 2x16000, 2:int64, lengths=2:int64 or "
            "batch.wave=2x16000 for a key of a dictionary. A .pt2 brings its own.",
            metavar="SHAPE",
        ),
    ] = None
    state: Annotated[
        list[str] | None,
        option(
            "State of a streaming model, such as h:h_out: the input, and the output that goes back into it. Found where names "
            "or shapes say it; 'none' switches that off. May be repeated.",
            metavar="IN:OUT",
        ),
    ] = None

    @property
    def named(self) -> bool:
        """Whether anything is said that belongs to a torch model alone."""
        return bool(self.factory or self.factory_args or self.weights or self.trust_pickle)

    def has_example(self, model: str) -> bool:
        """Whether the file or ``--example`` says what the model's inputs are."""
        from shrinkspeech.loading.load import is_program

        folder = self.folder(model)
        return bool(self.example) or is_program(model) or (folder is not None and folder.example() is not None)

    def folder(self, model: str) -> Folder | None:
        """What a folder of Hugging Face says, where the model or its weights are one."""
        from shrinkspeech.loading.load import folder_of
        from shrinkspeech.loading.processors import read_folder

        path = folder_of(model, self.weights)
        return None if path is None else read_folder(path)

    def capture(self, model: str, recipe: Recipe | None = None) -> Captured:
        """The captured model; the recipe lends its example where neither file nor ``--example`` has one."""
        from shrinkspeech.loading.load import load

        inputs = None if recipe is None or self.has_example(model) else _example_of(recipe)
        with doing(f"tracing {model}, and running it at other sizes"):
            return load(
                model,
                factory=self.factory,
                factory_args=self.factory_args,
                weights=self.weights,
                trust_pickle=self.trust_pickle,
                example=self.example,
                example_inputs=inputs,
                states=self.state or (),
            )


@dataclass(frozen=True)
class Length:
    """How much audio the example holds."""

    panel: ClassVar[str] = "Model"

    seconds: Annotated[
        float | None,
        option(
            "Seconds of audio in one item of the example. Found from its length if the input is a waveform.",
            metavar="S",
        ),
    ] = None
    sample_rate: Annotated[int, option("Sample rate of the model's waveforms.", metavar="HZ", min=1)] = SAMPLE_RATE


@dataclass(frozen=True)
class Shrinking:
    """Which groups may shrink."""

    panel: ClassVar[str] = "What may shrink"

    exclude: Annotated[
        list[str] | None, option("Leave modules or groups of this name as they are. May be repeated.", metavar="GLOB")
    ] = None
    only: Annotated[
        list[str] | None, option("Shrink only modules or groups of this name. May be repeated.", metavar="GLOB")
    ] = None
    min_width: Annotated[
        int,
        option("Units that every group keeps at least. With 0, residual branches may vanish.", metavar="N", min=0),
    ] = MIN_WIDTH

    def restrict(self, captured: Captured, groups: Groups) -> Groups:
        """The groups with those frozen that are not to shrink.

        Raises:
            InputError: a pattern matches no group.
        """
        from shrinkspeech.surgery.depth import allow_empty, removable
        from shrinkspeech.surgery.slice import slice as slice_graph

        exclude, only = self.exclude or (), self.only or ()
        _known(groups, "--exclude", exclude)
        _known(groups, "--only", only)
        groups = groups.restrict(only=only, exclude=exclude, min_width=self.min_width)
        return allow_empty(groups, removable(captured, groups, slice_graph)) if self.min_width == 0 else groups


@dataclass(frozen=True)
class Loaded:
    """A captured model, its groups, and the audio in one item of its example in s."""

    captured: Captured
    groups: Groups
    seconds: float


@dataclass(frozen=True)
class Source:
    """A model as the command line describes it."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .pt2 of torch.export.save, a folder of Hugging Face, weights (with --factory), or "
            "package.module:function (with --weights).",
            show_default=False,
        ),
    ]
    loading: Loading = field(default_factory=Loading)
    length: Length = field(default_factory=Length)
    shrinking: Shrinking = field(default_factory=Shrinking)

    @property
    def has_example(self) -> bool:
        """Whether the file or ``--example`` says what the model's inputs are."""
        return self.loading.has_example(self.model)

    @property
    def folder(self) -> Folder | None:
        """What a folder of Hugging Face says, where the model is one."""
        return self.loading.folder(self.model)

    @property
    def rate(self) -> int:
        """Hz of the model's waveforms.

        Raises:
            InputError: ``--sample-rate`` is not that of the model's processor.
        """
        from shrinkspeech.errors import InputError

        said, folder = self.length.sample_rate, self.folder
        if folder is None or said == folder.rate:
            return said
        if said != SAMPLE_RATE:
            raise InputError(f"{folder.path} was trained at {folder.rate} Hz: leave --sample-rate {said} out")
        return folder.rate

    def capture(self, recipe: Recipe | None = None) -> Captured:
        """The captured model; the recipe lends its example where neither file nor ``--example`` has one."""
        return self.loading.capture(self.model, recipe)

    def load(
        self, recipe: Recipe | None = None, captured: Captured | None = None, seconds: float | None = None
    ) -> Loaded:
        """Capture (unless that has been done) and label the model.

        Args:
            seconds: audio in one item of the example, where ``--seconds`` does not say it and it is known otherwise.
        """
        from shrinkspeech.groups.label import label
        from shrinkspeech.loading.examples import seconds_of
        from shrinkspeech.tasks.intake import audio_seconds

        rate, folder = self.rate, self.folder
        captured = captured or self.capture(recipe)
        if seconds is None and folder is not None:
            seconds = audio_seconds(captured, folder.features, folder.rate)
        said = self.length.seconds if self.length.seconds is not None else seconds
        known = seconds_of(captured, said, rate)
        return Loaded(captured, self.shrinking.restrict(captured, label(captured)), known)

    def to_fit(
        self, recipe: Recipe | None = None, captured: Captured | None = None, seconds: float | None = None
    ) -> Loaded:
        """The same, for a model that is to be shrunk; says what there is to know about it.

        Raises:
            InputError: nothing of it can shrink.
        """
        from shrinkspeech.errors import InputError

        loaded = self.load(recipe, captured, seconds)
        if not loaded.groups.shrinkable:
            raise InputError(f"no group of {self.model} can shrink: 'shrinkspeech inspect' says why")
        for note in loaded.captured.notes:
            typer.echo(f"note: {note}")
        return loaded


def fixed_texts(held: Mapping[str, int], spectra: Mapping[str, int], trained: bool = False) -> list[str]:
    """What a fit does not train, or trains because it was told to, in sentences.

    Args:
        held: elements of the parameters that their owner froze, by name.
        spectra: of those that are the matrix of a Fourier transform.
        trained: whether what is frozen is trained all the same.
    """
    fate = (
        "are trained all the same (--train-frozen)"
        if trained
        else "stay as they are in a fit, but for channels that go (--train-frozen trains them)"
    )
    facts = [
        (
            {name: n for name, n in held.items() if not trained or name not in spectra},
            f"are frozen by their owner: they {fate}",
        ),
        (
            {name: n for name, n in spectra.items() if trained or name not in held},
            "are Fourier transforms: no budget counts them, and a fit leaves them as they are, but for channels that go",
        ),
    ]
    return [f"{_part(parameters)}, {fact}" for parameters, fact in facts if parameters]


def _part(parameters: Mapping[str, int]) -> str:
    from shrinkspeech.budget.amounts import human

    first = ", ".join(list(parameters)[:3]) + (", …" if len(parameters) > 3 else "")
    return f"{human(sum(parameters.values()))} of the parameters, in {len(parameters)} tensors ({first})"


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
