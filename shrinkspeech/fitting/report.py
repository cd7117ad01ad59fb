"""The result of a fit, and its run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.files import replacing
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.copies import refuse_outdated
from shrinkspeech.loading.sums import write_sums

FILES = ("model.safetensors", "model.pt2", "widths.json", "report.json")
"""What a run always holds."""


@dataclass(frozen=True)
class Reached:
    """What the budget was of (the name of a quantity), in ``unit``.

    A latency was measured on the machine that ran the fit, all else was counted.
    """

    quantity: str
    unit: str
    original: float
    target: float
    reached: float


@dataclass(frozen=True)
class StateSizes:
    """A state of a streaming model: the input, the output that goes back into it, and its shape in the original and now."""

    input: str
    output: str
    original: tuple[int, ...]
    shape: tuple[int, ...]


def state_sizes(original: Captured, small: Captured) -> tuple[StateSizes, ...]:
    """What became of each state, in the example's batch."""
    before, after = (pytree.tree_leaves(captured.example_inputs) for captured in (original, small))
    return tuple(
        StateSizes(x.source, x.result, tuple(before[x.input].shape), tuple(after[x.input].shape))
        for x in original.states
    )


@dataclass(frozen=True)
class FitReport:
    """What a fit did. FLOP/s are per second of audio; ``seconds`` is the audio in one example, ``duration`` the fit's.

    ``target_flops`` is None where the budget was of something else; ``loss`` is the mean over the last 50 steps,
    of the weights before they are averaged; ``skipped`` steps had a loss or a gradient that was not finite, and moved nothing;
    ``returns``: times that the fit went back to good weights after several of them, with half the learning rate;
    ``uncounted`` are operators, and where they stand, that all FLOP/s leave out, as nobody can count them;
    ``states`` are those of a streaming model;
    ``unevaluated`` says why the recipe's ``evaluate`` failed on the small model, if it did.
    """

    original_flops: float
    target_flops: float | None
    flops: float
    budget: Reached
    original_params: int
    params: int
    metrics_before: Mapping[str, float]
    metrics_after: Mapping[str, float]
    seconds: float
    steps: int
    seed: int
    duration: float
    loss: float | None = None
    skipped: int = 0
    returns: int = 0
    uncounted: tuple[str, ...] = ()
    unevaluated: str | None = None
    states: tuple[StateSizes, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """A shrunk model: its graph, the width of every group, the units of the original that remain, and the report."""

    captured: Captured
    widths: Mapping[str, int]
    kept: Mapping[str, Sequence[int]]
    report: FitReport

    def save(self, run: str | Path) -> None:
        """Write ``model.safetensors``, ``model.pt2``, ``widths.json`` and ``report.json`` into the folder ``run``, in this
        order: what took long to train is there whatever becomes of the rest. The sums of all (``SHA256SUMS``) come last.

        Raises:
            InputError: a weight is not finite, or a copy of the graph has been trained; nothing is written.
        """
        refuse_outdated(self.captured.graph_module)
        self.captured.refuse_not_finite()
        folder = Path(run)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: _packed(tensor) for name, tensor in self.captured.parameters().items()}
        with replacing(folder / "model.safetensors") as temporary:
            save_file(tensors, str(temporary))
        self.captured.save(folder / "model.pt2")
        widths = {name: {"width": self.widths[name], "units": list(self.kept[name])} for name in self.widths}
        _write_json(folder / "widths.json", widths)
        _write_json(folder / "report.json", asdict(self.report))
        write_sums(folder, FILES)


def _packed(tensor: Tensor) -> Tensor:
    """A copy in memory of its own, in the order of its elements: safetensors writes no other."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _write_json(path: Path, value: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
