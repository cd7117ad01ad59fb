"""Options that go with ``--task``: the clips to train and validate on, and how the model's outputs are meant."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from shrinkspeech.data.options import DataOptions, parse_labels, parse_range, parse_settings
from shrinkspeech.defaults import BATCH_SIZE, SAMPLE_RATE, TOP_K
from shrinkspeech_cli.options import option

if TYPE_CHECKING:
    from shrinkspeech.data.frontend import FrontEnd
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.tasks.base import TaskOptions
    from shrinkspeech_cli.model import Source

FILE = "task.json"
"""Where a run keeps the task, its labels and its features."""


@dataclass(frozen=True)
class TaskData:
    """What the user said about a task's data."""

    panel: ClassVar[str] = "Task data (with --task)"

    val: Annotated[
        Path | None,
        option(
            "Clips to validate on. Without it the column 'split' says which, or a share of --data is taken.",
            metavar="MANIFEST",
        ),
    ] = None
    label_column: Annotated[
        str | None, option("Column that holds the labels. Without it the column is found by its name.", metavar="NAME")
    ] = None
    labels: Annotated[
        str | None, option("Labels in the order of the model's outputs. Without it they are sorted.", metavar="A,B,…")
    ] = None
    where: Annotated[
        list[str] | None,
        option("Use only rows where this holds; COL!=VALUE for the others. May be repeated.", metavar="COL=VALUE"),
    ] = None
    crop: Annotated[
        float | None, option("Seconds in an example. Without it an example is as long as the model's own.", metavar="S")
    ] = None
    pad: Annotated[str, option("What fills short clips: silence or repeat.", metavar="HOW")] = DataOptions.pad
    noise: Annotated[Path | None, option("Noise to mix into the clips.", metavar="MANIFEST")] = None
    noise_where: Annotated[
        list[str] | None, option("Use only rows of the noise where this holds. May be repeated.", metavar="COL=VALUE")
    ] = None
    snr: Annotated[str, option("Range of the signal-to-noise ratios in dB.", metavar="LOW:HIGH")] = ":".join(
        f"{end:g}" for end in DataOptions.snr
    )
    rir: Annotated[
        Path | None, option("Room impulse responses that the clips are convolved with.", metavar="MANIFEST")
    ] = None
    gain: Annotated[str | None, option("Range of random gains in training, in dB.", metavar="LOW:HIGH")] = None
    features: Annotated[
        str | None,
        option("Features that the model takes: logmel:80,25ms,10ms or mfcc:40 or lfcc:60.", metavar="SPEC"),
    ] = None
    masks: Annotated[int, option("Random masks in time and in frequency. Goes with --features.", metavar="N")] = (
        DataOptions.masks
    )
    workers: Annotated[
        int | None, option("Processes that prepare batches. Without it all cores but one, at most 4.", metavar="N")
    ] = None
    val_fraction: Annotated[
        float, option("Share of --data to validate on where nothing else says which.", metavar="X")
    ] = DataOptions.val_fraction
    val_items: Annotated[int, option("Validate on at most this many clips.", metavar="N")] = DataOptions.val_items
    cache_mb: Annotated[float, option("Keep audio of up to this size in memory.", metavar="MB")] = DataOptions.cache_mb
    model_output: Annotated[
        str | None,
        option("Output of the model that the task reads. Without it the one that serves best.", metavar="N|NAME"),
    ] = None
    outputs_are: Annotated[
        str,
        option(
            "What the outputs are: logit, probability or log-probability; auto finds it in the graph.", metavar="KIND"
        ),
    ] = "auto"
    balanced: Annotated[
        bool | None,
        option("Weight classes against their frequency, or not. Without it spoof does.", "--balanced/--unbalanced"),
    ] = None
    top_k: Annotated[int, option("K of the top-k accuracy of classify.", metavar="K")] = TOP_K
    asv_scores: Annotated[
        Path | None,
        option("Scores of a speaker verifier, 'id key score' a line, for the min t-DCF of spoof.", metavar="FILE"),
    ] = None

    set: Annotated[
        list[str] | None,
        option("Setting that the task alone has, as its documentation says. May be repeated.", metavar="NAME=VALUE"),
    ] = None

    def given(self) -> list[str]:
        """Names of the options that the user gave."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            InputError: a value cannot be read.
        """
        self.data_options(Path(), BATCH_SIZE, SAMPLE_RATE, 0)
        parse_settings(self.set or ())

    def data_options(self, manifest: Path, batch_size: int, sample_rate: int, seed: int) -> DataOptions:
        """The same, as the library takes it.

        Raises:
            InputError: a value cannot be read.
        """
        return DataOptions(
            manifest=manifest,
            labels=None if self.labels is None else parse_labels(self.labels),
            where=tuple(self.where or ()),
            noise_where=tuple(self.noise_where or ()),
            snr=parse_range(self.snr, "--snr"),
            gain=None if self.gain is None else parse_range(self.gain, "--gain"),
            batch_size=batch_size,
            sample_rate=sample_rate,
            seed=seed,
            **{name: getattr(self, name) for name in _SAME},
        )

    def task_options(self) -> TaskOptions:
        """How the outputs are meant and judged, as the library takes it."""
        from shrinkspeech.tasks.base import TaskOptions

        return TaskOptions(
            self.outputs_are,
            self.balanced,
            self.top_k,
            self.asv_scores,
            model_output=self.model_output,
            own=parse_settings(self.set or ()),
        )


_SAME = "val label_column crop pad noise rir features masks workers val_fraction val_items cache_mb".split()
"""Options that the library takes under the same name and in the same form."""


def lent_example(source: Source, data: DataOptions) -> Captured:
    """The model on its own example, or on one as long as ``--crop`` that is lent to it and that it runs on.

    Raises:
        InputError: it has none and runs on none of those lent, or on several, so that its layout is not known.
    """
    from shrinkspeech.errors import InputError, LoadError
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.loading.examples import shapes_text
    from shrinkspeech.tasks.intake import lendable

    lent = lendable(data)
    found: list[tuple[str, Captured]] = []
    refusals: list[LoadError] = []
    for inputs in [None] if source.has_example or not lent else lent:
        recipe = None if inputs is None else Recipe(lambda: iter(()), None, example_inputs=partial(tuple, inputs))
        try:
            found.append((shapes_text(inputs or ()), source.capture(recipe)))
        except LoadError as error:
            refusals.append(error)
    if len(found) == 1:
        return found[0][1]
    if found:
        known = " and of ".join(dict.fromkeys(text for text, _ in found))
        raise InputError(
            f"{source.model} runs on features of {known}, in more than one layout: say with --example what it takes, "
            "with more frames than bands, so that they can be told apart"
        )
    more = " (of its features), or --crop with the length of a clip in s" if data.features and not lent else ""
    raise InputError(f"{refusals[0]}{more}")


def write_task(run: Path, recipe: Recipe) -> None:
    """``task.json`` in a run: labels in the order of the outputs, features, and notes; nothing for other recipes."""
    from shrinkspeech.files import replacing
    from shrinkspeech.tasks.base import TaskRecipe

    if isinstance(recipe, TaskRecipe):
        with replacing(run / FILE) as temporary:
            temporary.write_text(json.dumps(recipe.facts(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def frontend_of(run: Path) -> FrontEnd:
    """The front end that a run was trained with, for ``export --with-frontend``.

    Raises:
        InputError: the run has no features.
    """
    from shrinkspeech.data.frontend import parse_features
    from shrinkspeech.data.pretrained import front_end
    from shrinkspeech.errors import InputError
    from shrinkspeech.loading.records import Task, read_record

    file = run / FILE
    facts = read_record(file, Task) if file.is_file() else None
    if facts is None or not facts.features or not facts.sample_rate:
        raise InputError(
            f"{run} was not trained on features: --with-frontend is for runs of 'fit --task … --features …'"
        )
    return front_end(parse_features(facts.features), facts.sample_rate)
