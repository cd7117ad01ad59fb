"""Options of ``fit --task`` and ``sweep --task``: what the model does, and the manifests to train and validate on."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shrinkspeech.tasks import task_names

if TYPE_CHECKING:
    from shrinkspeech.data.frontend import FrontEnd
    from shrinkspeech.data.options import DataOptions
    from shrinkspeech.fitting.recipe import Recipe
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech_cli.options import Loaded, Source

_DATA = "Data (one of the three)"

FILE = "task.json"
"""Where a run keeps the task, its labels and its features."""


def _option(*names: str, metavar: str | None = None, help: str, panel: str = "Task data (with --task)") -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, show_default=False)


@dataclass(frozen=True)
class TaskChoice:
    """What the user said about a task; one field for each option."""

    task: Annotated[
        str | None,
        _option(metavar="NAME", help=f"{', '.join(task_names())}: loss and metrics come with it.", panel="Data"),
    ] = None
    data: Annotated[
        Path | None,
        _option(
            "--data",
            metavar="MANIFEST",
            help="CSV or JSON lines, one clip a row (NeMo's too), or a folder.",
            panel=_DATA,
        ),
    ] = None
    val: Annotated[
        Path | None,
        _option("--val", metavar="MANIFEST", help="Clips to validate on; else the column 'split' or a share."),
    ] = None
    label_column: Annotated[
        str | None, _option("--label-column", metavar="NAME", help="Column of the labels; else found by its name.")
    ] = None
    labels: Annotated[
        str | None,
        _option("--labels", metavar="A,B,…", help="Labels in the order of the model's outputs; else sorted."),
    ] = None
    where: Annotated[
        list[str] | None, _option("--where", metavar="COL=VALUE", help="Rows to use; also COL!=VALUE. May be repeated.")
    ] = None
    crop: Annotated[
        float | None, _option("--crop", metavar="S", help="Length of an example; else that of the model's own.")
    ] = None
    pad: Annotated[str, _option("--pad", metavar="HOW", help="Fill short clips with silence (default) or repeat.")] = (
        "silence"
    )
    noise: Annotated[Path | None, _option("--noise", metavar="MANIFEST", help="Noise to mix in.")] = None
    noise_where: Annotated[
        list[str] | None, _option("--noise-where", metavar="COL=VALUE", help="Rows of the noise to use.")
    ] = None
    snr: Annotated[str, _option("--snr", metavar="LOW:HIGH", help="Signal-to-noise ratios in dB (-5:20).")] = "-5:20"
    rir: Annotated[Path | None, _option("--rir", metavar="MANIFEST", help="Room impulse responses.")] = None
    gain: Annotated[str | None, _option("--gain", metavar="LOW:HIGH", help="Random gain in training, in dB.")] = None
    features: Annotated[
        str | None,
        _option("--features", metavar="SPEC", help="For models of features: logmel:80,25ms,10ms; mfcc:40; lfcc:60."),
    ] = None
    masks: Annotated[
        int, _option("--masks", metavar="N", help="Masks in time and in frequency, with --features (0).")
    ] = 0
    workers: Annotated[
        int | None, _option("--workers", metavar="N", help="Processes that prepare batches (cores but one, at most 4).")
    ] = None
    val_fraction: Annotated[
        float, _option("--val-fraction", metavar="X", help="Share to validate on where no split is given (0.1).")
    ] = 0.1
    val_items: Annotated[int, _option("--val-items", metavar="N", help="Validate on at most so many clips (1000).")] = (
        1000
    )
    cache_mb: Annotated[
        float, _option("--cache-mb", metavar="MB", help="Keep audio up to this size in memory (1000).")
    ] = 1000.0
    outputs_are: Annotated[
        str,
        _option(
            "--outputs-are", metavar="KIND", help="logit, probability or log-probability; else found in the graph."
        ),
    ] = "auto"
    balanced: Annotated[
        bool | None, _option("--balanced/--unbalanced", help="Weight classes against their frequency (spoof: yes).")
    ] = None
    top_k: Annotated[int, _option("--top-k", metavar="K", help="Top-k accuracy of classify (3).")] = 3
    asv_scores: Annotated[
        Path | None,
        _option("--asv-scores", metavar="FILE", help="'id key score' of a speaker verifier, for min t-DCF."),
    ] = None

    def with_audio(self, audio: Path | None) -> tuple[TaskChoice, Path | None]:
        """``--task distil --audio DIR``: the folder stands where a manifest would; otherwise both as they are."""
        if self.task == "distil" and self.data is None and audio is not None:
            return replace(self, data=audio), None
        return self, audio

    def check(self, recipe: Path | None, audio: Path | None) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            InputError: ``--task`` stands beside another source of data, lacks its own, or a value cannot be read.
        """
        from shrinkspeech.errors import InputError

        if self.task is None:
            given = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
            if given:
                example = ", such as --task distil without labels" if audio is not None else ""
                raise InputError(
                    f"--{given[0].replace('_', '-')} goes with --task: say what the model does with --task{example}"
                )
            return
        if self.task not in task_names():
            raise InputError(f"there is no task '{self.task}': --task is {', '.join(task_names())}")
        if recipe is not None or audio is not None:
            raise InputError(f"--task brings its own data: leave {'--recipe' if recipe else '--audio'} out, or --task")
        if self.data is None:
            raise InputError(f"--task {self.task} needs --data: give a manifest, a CSV or JSON lines file")
        self.data_options(16, 16_000, 0)

    def data_options(self, batch_size: int, sample_rate: int, seed: int) -> DataOptions:
        """The same, as the library takes it; ``check`` has been called."""
        from shrinkspeech.data.options import DataOptions, parse_labels, parse_range

        return DataOptions(
            manifest=self.data or Path(),
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

    def load(self, source: Source, batch_size: int, sample_rate: int, seed: int) -> tuple[Loaded, Recipe]:
        """The model and the recipe; what the user should know is printed.

        ``--crop`` lends the model an example where it has none, and ``--features`` says how long its example is.

        Raises:
            InputError: the manifest or the model does not fit the task, or nothing of it can shrink.
        """
        from shrinkspeech.errors import InputError
        from shrinkspeech.tasks.base import TaskOptions
        from shrinkspeech.tasks.intake import audio_seconds, lendable
        from shrinkspeech.tasks.recipes import task_recipe

        data = self.data_options(batch_size, sample_rate, seed)
        captured = self._captured(source, lendable(data))
        if data.features is not None and source.seconds is None:
            source = replace(source, seconds=audio_seconds(captured, data))
        loaded = source.load(None, captured)
        if not loaded.groups.shrinkable:
            raise InputError(f"no group of {source.model} can shrink: 'shrinkspeech inspect' says why")
        options = TaskOptions(self.outputs_are, self.balanced, self.top_k, self.asv_scores)
        made = task_recipe(self.task or "", loaded.captured, data, options)
        for note in made.notes:
            typer.echo(f"note: {note}", err=True)
        return loaded, made

    def _captured(self, source: Source, lent: list[tuple[Any, ...]]) -> Captured:
        """The model on its own example, or on the one lent to it that it runs on.

        Raises:
            InputError: it has none and runs on none of those lent, or on several, so that its layout is not known.
        """
        from shrinkspeech.errors import InputError, LoadError
        from shrinkspeech.fitting.recipe import Recipe
        from shrinkspeech.loading.examples import shapes_text

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
        more = " (of its features), or --crop with the length of a clip in s" if self.features and not lent else ""
        raise InputError(f"{refusals[0]}{more}")


_SAME = (
    *(
        "val",
        "label_column",
        "crop",
        "pad",
        "noise",
        "rir",
        "features",
        "masks",
        "workers",
        "val_fraction",
        "val_items",
    ),
    "cache_mb",
)
"""Options that the library takes under the same name and in the same form."""

NO_TASK = TaskChoice()


def with_task(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``TaskChoice``, and hand them to it as its parameter ``task``."""
    own = inspect.signature(command, eval_str=True).parameters
    added = inspect.signature(TaskChoice, eval_str=True).parameters
    kept = [parameter for name, parameter in own.items() if name != "task"]
    required = [parameter for parameter in kept if parameter.default is inspect.Parameter.empty]
    rest = [parameter for parameter in kept if parameter not in required]

    @wraps(command)
    def run(**values: Any) -> None:
        chosen = TaskChoice(**{name: values.pop(name) for name in added})
        command(**values, task=chosen)

    parameters = [*required, *added.values(), *rest]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


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
    from shrinkspeech.data.frontend import FrontEnd, parse_features
    from shrinkspeech.errors import InputError

    facts: Mapping[str, Any] = {}
    if (run / FILE).is_file():
        facts = json.loads((run / FILE).read_text(encoding="utf-8"))
    if not facts.get("features"):
        raise InputError(
            f"{run} was not trained on features: --with-frontend is for runs of 'fit --task … --features …'"
        )
    return FrontEnd(parse_features(facts["features"]), int(facts["sample_rate"]))
