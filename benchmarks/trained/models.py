"""A trained model: where it lies, how it is named on the command line, and what it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """A trained model as its authors left it.

    Attributes:
        name: unique.
        source: ``package==version`` of the Python package index, or ``owner/repository`` with its commit.
        folder: checkout below the folder of repositories, and the folder in it that a stranger stands in; for a package
            the package's own folder, from which ``weights`` is read.
        factory: as the command line takes it.
        weights: file below ``folder``; nothing where the factory loads them itself.
        example: shapes of the inputs.
        seconds: audio in one item of the example, where its length does not say it.
        rate: sample rate in Hz.
        options: what ``fit`` is given besides, data included; ``{audio}`` is the folder of the audio.
        inputs: name of the model's own front end in ``inputs.py``; then a recipe feeds the fit with it.
        metric: name of a measure in ``metrics.py``.
        steps: steps of the fit.
        batch: items in a training batch.
        output: which of the model's outputs the metric reads.
        given: what had to be given beside a factory, weights and data, in a few words.
        limit: why the model cannot go through, where that is not for this project to mend.
    """

    name: str
    source: str
    folder: str
    factory: str
    weights: str | None = None
    example: tuple[str, ...] = ()
    seconds: float | None = None
    rate: int = 16_000
    options: tuple[str, ...] = ()
    inputs: str | None = None
    metric: str = "distance"
    steps: int = 300
    batch: int = 8
    output: int = 0
    given: str = ""
    limit: str = ""

    @property
    def is_package(self) -> bool:
        """Whether it comes from the Python package index."""
        return "==" in self.source

    def here(self, repositories: Path, packages: Path) -> Path:
        """The folder in which the commands run."""
        return (packages if self.is_package else repositories) / self.folder

    def model_options(self, folder: Path) -> list[str]:
        """What says which model is meant, for ``inspect`` and ``fit``; a recipe lends it the example."""
        found = ["--weights", str(folder / self.weights)] if self.weights else []
        for shape in () if self.inputs else self.example:
            found += ["--example", shape]
        if self.seconds is not None:
            found += ["--seconds", f"{self.seconds:g}"]
        return found + (["--sample-rate", str(self.rate)] if self.rate != 16_000 else [])
