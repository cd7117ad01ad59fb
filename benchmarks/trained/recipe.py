"""The recipe of the models that take features of their own: speech through the model's front end, and no labels.

The model is named by ``SHRINKSPEECH_TRAINED_MODEL``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder that holds benchmarks

from benchmarks.trained.audio import batches, wide, words
from benchmarks.trained.inputs import FRONT_ENDS
from benchmarks.trained.measuring import seconds_of
from benchmarks.trained.table import MODELS

MODEL = next(model for model in MODELS if model.name == os.environ["SHRINKSPEECH_TRAINED_MODEL"])


def train_batches() -> Iterator[tuple[tuple[Tensor, ...], None]]:
    """What the model takes of a batch, and no target."""
    speech = words("train") if MODEL.metric == "digits" else wide("train")
    for samples in batches(MODEL.rate, seconds_of(MODEL), MODEL.batch, speech):
        yield FRONT_ENDS[MODEL.inputs](samples, MODEL.rate), None


loss = None
"""No labels: the small model learns to give the original's outputs."""
