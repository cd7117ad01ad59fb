"""What tasks share: the recipe with its notes, and the loop over validation batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from shrinkspeech.data.items import Batch
from shrinkspeech.data.source import Source
from shrinkspeech.defaults import TOP_K
from shrinkspeech.fitting.recipe import Recipe
from shrinkspeech.graph.captured import Captured
from shrinkspeech.tasks.intake import Intake
from shrinkspeech.tasks.outputs import Observed


@dataclass(frozen=True)
class TaskOptions:
    """What the user chooses about a task.

    Attributes:
        model_output: number (from 0) or name of the model's output to read; None for the one that serves the task best.
        outputs_are: ``auto``, ``logit``, ``probability`` or ``log-probability``.
        balanced: weight classes against their frequency; None leaves it to the task (spoof does).
        top: k of the top-k accuracy.
        asv_scores: scores of a speaker verifier, for the tandem cost of ``spoof``.
        rounds: of the bootstrap.
        own: what the task alone understands, by name (``Task.settings``).
    """

    outputs_are: str = "auto"
    balanced: bool | None = None
    top: int = TOP_K
    asv_scores: Path | None = None
    rounds: int = 500
    model_output: str | None = None
    own: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRecipe(Recipe):
    """A recipe that a task made.

    Attributes:
        task: its name.
        labels: in the order of the model's outputs; empty unless it has classes.
        notes: what the user should know, in sentences: labels, splits, what was left out, how outputs are read.
        seconds: audio in an example.
        source: where the batches come from.
    """

    task: str = ""
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    source: Source | None = None

    def facts(self) -> dict[str, Any]:
        """For a JSON file beside the model."""
        options = None if self.source is None else self.source.options
        return {
            "task": self.task,
            "labels": list(self.labels),
            "features": None if options is None else options.features,
            "sample_rate": None if options is None else options.sample_rate,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


@dataclass
class Task(ABC):
    """A task on one model and one source of data. ``prepare`` comes before everything else.

    Attributes:
        name: what it is called in ``--task``, as it was registered.
        kind: what the target of an example is, one of ``shrinkspeech.data.source.TARGETS``.
        settings: options that it alone has (``--set NAME=VALUE``), and what each is.
    """

    captured: Captured
    intake: Intake
    source: Source
    options: TaskOptions

    name: ClassVar[str]
    kind: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}

    @property
    def has_loss(self) -> bool:
        """Whether there is a loss of its own, known once it is prepared; else the fit trains towards the original's outputs."""
        return True

    @abstractmethod
    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        """Check the model's outputs on one batch, and say how they are read.

        Raises:
            InputError: the task cannot read them.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """One number to lower."""

    @abstractmethod
    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Metrics on the rows to validate on."""

    def results(self, model: Any) -> Iterator[tuple[Any, Batch]]:
        """Outputs and batch of every validation batch, on the CPU."""
        device = next(iter(model.parameters()), torch.zeros(0)).device if isinstance(model, nn.Module) else None
        with torch.no_grad():
            for batch in self.source.val():
                arguments = self.intake(batch)
                outputs = model(*(arguments if device is None else (x.to(device) for x in arguments)))
                yield tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, outputs), batch
