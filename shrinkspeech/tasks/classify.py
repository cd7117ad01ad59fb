"""Classes of clips: keywords, languages, speakers, intents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from shrinkspeech.data.items import Batch
from shrinkspeech.tasks.base import Task
from shrinkspeech.tasks.outputs import Observed
from shrinkspeech.tasks.reading import Need, Rank, Reading, Way, find_reading
from shrinkspeech.tasks.registry import task


@task("classify")
@dataclass
class Classify(Task):
    """Cross entropy over the classes of a clip, frames averaged; accuracy, macro F1 and top-k accuracy in %.

    ``high`` is the class that a single value stands for, in models of two classes.
    """

    kind = "class"
    reading: Reading = field(init=False)
    weights: Tensor | None = field(init=False, default=None)
    high: int = field(init=False, default=1)

    @property
    def classes(self) -> int:
        return len(self.source.labels)

    @property
    def balanced(self) -> bool:
        """Whether classes weigh the same however many clips each has."""
        return bool(self.options.balanced)

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        count, size = self.classes, len(batch.x)
        wanted = (2, 1) if count == 2 else (count,)
        shapes = f"{size}x{count}" + (f" or {size}x1" if count == 2 else "") + self._more(observed)
        need = Need(f"'{self.name}' with {count} labels", shapes, self.options.model_output)
        self.reading, notes = find_reading(observed, rank, wanted, need, self.options.outputs_are)
        if self.balanced:
            counts = torch.tensor(self.source.counts, dtype=torch.float32).clamp_min(1)
            self.weights = counts.sum() / (count * counts)
        return (*notes, *self._read_as(), *self._cut(), *self._looks_wrong(observed, batch))

    def _more(self, observed: Observed) -> str:
        """What to do about a model of more classes than there are labels."""
        sizes = [output.shape[1] for output in observed.outputs if len(output.shape) == 2 and not output.times]
        more = [size for size in sizes if size > self.classes]
        return f": name all {more[0]} labels in the order of the outputs with --labels" if len(more) == 1 else ""

    def _read_as(self) -> tuple[str, ...]:
        time = self.reading.time
        pooled = "" if time is None else f", averaged over {self.reading.shape[time]} frames"
        one = "" if self.reading.classes is not None else f", high for '{self.source.labels[self.high]}'"
        return (f"the model's outputs are read as {self.reading.kind}{one}{pooled}",)

    def _cut(self) -> tuple[str, ...]:
        """Whether most clips are longer than the model's own example, which set the length of examples."""
        seconds, clips = self.intake.seconds, self.source.train_items.clips.checked.seconds
        if self.source.options.crop is not None or median(clips) <= 1.05 * seconds:
            return ()
        return (
            f"examples of {seconds:g} s are cut from clips of {median(clips):.3g} s (median): --crop gives another length",
        )

    def _looks_wrong(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        """A trained model that does worse than chance has its classes in another order."""
        right = float((self.logits(observed.returned).argmax(1) == batch.target).float().mean())
        if right >= 1.0 / self.classes:
            return ()
        return (
            f"the model is right about {100 * right:.0f} % of the first batch, less than by chance: "
            "give the labels in the order of its outputs with --labels if it is trained already",
        )

    def logits(self, outputs: Any) -> Tensor:
        """``[B, classes]``."""
        values = self.reading.pooled(outputs)
        if values.shape[1] > 1:
            return values
        pair = [torch.zeros_like(values), values]
        return torch.cat(pair if self.high == 1 else pair[::-1], 1)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        weights = None if self.weights is None else self.weights.to(batch.target.device)
        return F.cross_entropy(self.logits(outputs), batch.target, weights)

    def evaluate(self, model: Any) -> Mapping[str, float]:
        logits, target = self.all_logits(model)
        count, top = self.classes, self.options.top
        found = {
            "accuracy": 100 * float(multiclass_accuracy(logits, target, count, average="micro")),
            "macro_f1": 100 * float(multiclass_f1_score(logits, target, count, average="macro")),
        }
        if 1 < top < count:
            found[f"top{top}"] = 100 * float(multiclass_accuracy(logits, target, count, average="micro", top_k=top))
        return found

    def all_logits(self, model: Any) -> tuple[Tensor, Tensor]:
        """Logits ``[N, classes]`` and classes ``[N]`` of everything to validate on."""
        parts = [(self.logits(outputs), batch.target) for outputs, batch in self.results(model)]
        logits, target = (torch.cat(part) for part in zip(*parts, strict=True))
        return logits, target


def rank(way: Way) -> Rank | None:
    """A value for each class, then one value for two classes; of each, clips before frames. What may be frames, but cannot be
    tried, must hold the classes: one value a frame might be anything, such as an embedding."""
    if way.time is None:
        return 5 if way.classes is not None else 2
    if way.proved:
        return 4 if way.classes is not None else 1
    return 3 if way.classes is not None else None
