"""Speaker verification: whether two clips are of one speaker, by the cosine of their embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from shrinkspeech.data.items import Batch
from shrinkspeech.errors import InputError
from shrinkspeech.tasks.base import Task
from shrinkspeech.tasks.metrics import eer_of, min_dcf, rates
from shrinkspeech.tasks.outputs import Observed, Output
from shrinkspeech.tasks.reading import Need, Rank, best_output, taken
from shrinkspeech.tasks.registry import task

TARGETS = 0.05
"""Share of pairs of one speaker in the detection cost, whose errors cost the same, as in the VoxCeleb challenges."""

PAIRS = 10_000
"""Pairs of one speaker, and pairs of two, that are drawn at most."""

TEMPERATURE = 0.05
"""Divisor of the cosines in the loss, between the 0.1 of supervised contrastive learning (Khosla et al., 2020) and the 1/30 of
additive margins (Wang et al., 2018)."""

Pairs = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Two rows each ``[N, 2]``, and whether they are of one speaker ``[N]``."""


@task("verify")
@dataclass
class Verify(Task):
    """A contrastive loss within the batch; equal error rate (%) and a detection cost on pairs of clips."""

    kind = "speaker"
    settings: ClassVar[Mapping[str, str]] = {"trials": "file of pairs to validate on, '1 path path' or '0 path path'"}
    index: int = field(init=False, default=0)
    pairs: Pairs = field(init=False)

    @property
    def has_loss(self) -> bool:
        """Whether batches hold clips of one speaker, and of others that they can be told from."""
        labels = [row.label for row in self.source.train_items.clips.checked.rows]
        return self.source.options.batch_size >= 4 and 1 < len(set(labels)) < len(labels)

    def prepare(self, observed: Observed, batch: Batch) -> tuple[str, ...]:
        size, speakers = observed.size, sum(count > 0 for count in self.source.counts)
        shapes = f"embeddings of {size}xD, the same size at every length"
        need = Need(f"'{self.name}'", shapes, self.options.model_output)
        ranks = {x.number: rank(x, speakers) for x in observed.outputs if _is_embedding(x, size)}
        output = best_output(observed, ranks, need)
        self.index = output.number
        self.pairs, drawn = self._pairs()
        return (*taken(observed, output, "the shape of an embedding", need.chosen), drawn, *self._trained(output))

    def _trained(self, output: Output) -> tuple[str, ...]:
        size = output.values.numel() // len(output.values)
        if self.has_loss:
            return (
                f"embeddings of {size} values are drawn together and apart by speaker, two clips of each in a batch",
            )
        return (
            f"embeddings of {size} values are kept near the original's alone: a loss on speakers needs batches of 4, two "
            "speakers, and two clips of one",
        )

    def _pairs(self) -> tuple[Pairs, str]:
        """Pairs to validate on, and where they come from."""
        rows = self.source.val_items.clips.checked.rows
        chosen = self.source.val_rows()
        if "trials" in self.options.own:
            manifest = self.source.options.val or self.source.options.manifest
            file, names = Path(self.options.own["trials"]), {row: rows[row].path for row in chosen}
            pairs = read_trials(file, manifest if manifest.is_dir() else manifest.parent, names)
            return pairs, f"validated on {_counted(pairs)}, those of {file}"
        seed = self.source.options.seed
        pairs = draw_pairs(chosen, [rows[row].label or "" for row in chosen], PAIRS, seed)
        return pairs, f"validated on {_counted(pairs)}, drawn with seed {seed} among {len(chosen)} clips"

    def embeddings(self, outputs: Any) -> Tensor:
        """``[B, D]``, each of length 1."""
        values: Tensor = tree_leaves(outputs)[self.index]
        return F.normalize(values.flatten(1), dim=1)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        return contrast(self.embeddings(outputs), batch.target)

    def evaluate(self, model: Any) -> Mapping[str, float]:
        found: dict[int, NDArray[np.float64]] = {}
        for outputs, batch in self.results(model):
            found.update(zip(batch.rows.tolist(), self.embeddings(outputs).double().numpy(), strict=True))
        pairs, same = self.pairs
        known = np.array([one in found and other in found for one, other in pairs.tolist()])
        scores = np.array([found[one] @ found[other] for one, other in pairs[known].tolist()])
        alarms, misses = rates(scores, same[known])
        cost = min_dcf(alarms, misses, TARGETS, 1 - TARGETS, normalised=True)
        return {"eer": eer_of(alarms, misses), "min_dcf": cost}


def _is_embedding(output: Output, size: int) -> bool:
    return output.shape[:1] == (size,) and len(output.wide) == 1 and not output.times


def rank(output: Output, speakers: int) -> Rank:
    """What may be class scores comes last: probabilities, and as many values as there are speakers to train on."""
    return int(output.kind == "logit" and output.shape[output.wide[0]] != speakers)


def contrast(embeddings: Tensor, speakers: Tensor) -> Tensor:
    """Cross entropy of finding the other clips of one's speaker among all other clips of the batch, by cosine.

    It needs no weights of its own (supervised contrastive loss, Khosla et al., arXiv 2004.11362, eq. 2). Clips whose
    speaker has no other clip in the batch are there to be told from alone.

    Args:
        embeddings: ``[B, D]``, each of length 1.
        speakers: indices ``[B]``.
    """
    alone = torch.eye(len(speakers), dtype=torch.bool, device=speakers.device)
    cosines = (embeddings @ embeddings.T / TEMPERATURE).masked_fill(alone, float("-inf"))
    same = (speakers[:, None] == speakers) & ~alone
    found = -cosines.log_softmax(1).masked_fill(~same, 0.0).sum(1) / same.sum(1).clamp_min(1)
    return found.sum() / same.any(1).sum().clamp_min(1)


def draw_pairs(rows: Sequence[int], speakers: Sequence[str], most: int, seed: int) -> Pairs:
    """As many pairs of one speaker as of two, ``most`` of each at most; speakers weigh the same however many clips each has.

    Raises:
        InputError: no speaker has two clips, or there is one speaker alone.
    """
    rng, names = np.random.default_rng(seed), np.unique(speakers, return_inverse=True)[1]
    pairs = np.stack(np.triu_indices(len(rows), 1), axis=1)
    one, other = names[pairs[:, 0]], names[pairs[:, 1]]
    clips, same = np.bincount(names), one == other
    weights = 1.0 / (clips[one] * (clips[other] - same)).clip(min=1)
    count = min(int(same.sum()), int((~same).sum()), most)
    if not count:
        raise InputError("error rates of verification need two clips of one speaker to validate on, and one of another")
    drawn = np.concatenate([_draw(rng, np.flatnonzero(kind), weights[kind], count) for kind in (same, ~same)])
    return np.asarray(rows, dtype=np.int64)[pairs[drawn]], same[drawn]


def _draw(
    rng: np.random.Generator, from_: NDArray[np.int64], weights: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """``count`` of some indices, none of them twice."""
    return rng.choice(from_, count, replace=False, p=weights / weights.sum())


def read_trials(file: Path, folder: Path, paths: Mapping[int, Path]) -> Pairs:
    """Pairs from a file in the form of VoxCeleb: ``1 path path`` of one speaker, ``0 path path`` of two.

    Args:
        folder: of the manifest; paths are relative to it, as they are there.
        paths: of the rows that are validated on.

    Raises:
        InputError: it is missing, a line is not of that form or names a clip that is not there, or a kind never comes.
    """
    if not file.is_file():
        raise InputError(f"there is no file {file} for --set trials")
    rows: dict[Path, list[int]] = {}
    for row, path in paths.items():
        rows.setdefault(path, []).append(row)
    pairs, same = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 3 or parts[0] not in ("0", "1"):
            raise InputError(f"{file}, line {number}: write '1 path path' for one speaker and '0 path path' for two")
        found = [rows.get(folder / part, []) for part in parts[1:]]
        for part, there in zip(parts[1:], found, strict=True):
            if len(there) != 1:
                count = "no row" if not there else f"{len(there)} rows"
                raise InputError(
                    f"{file}, line {number}: {count} of the {len(paths)} that are validated on have the path {part}: "
                    "write it as the manifest does, and raise --val-items if there are more"
                )
        pairs.append([there[0] for there in found])
        same.append(parts[0] == "1")
    if all(same) or not any(same):
        raise InputError(f"{file} needs pairs of one speaker (1) and pairs of two (0)")
    return np.array(pairs), np.array(same)


def _counted(pairs: Pairs) -> str:
    return f"{pairs[1].sum()} pairs of one speaker and {(~pairs[1]).sum()} of two"
