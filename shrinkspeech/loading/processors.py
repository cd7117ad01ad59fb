"""What a Hugging Face folder says of the model's input, read without transformers: rate, features, labels, an example.

A folder holds ``config.json``, weights, and for most models ``preprocessor_config.json``, the processor that stood before the
model when it was trained. What that processor does is written as ``--features`` has it, so that it is done to the data of a fit
and can be put into an exported file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shrinkspeech.defaults import SAMPLE_RATE
from shrinkspeech.errors import LoadError

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
KEPT = (
    "feature_extractor_type",
    "sampling_rate",
    "do_normalize",
    "num_mel_bins",
    "feature_size",
    "max_length",
    "mean",
    "std",
)
"""What of a processor goes into the metadata of an exported file."""


@dataclass(frozen=True)
class Folder:
    """A model that ``save_pretrained`` wrote.

    Attributes:
        config: what ``config.json`` holds.
        processor: what ``preprocessor_config.json`` holds; empty where there is none.
    """

    path: Path
    config: Mapping[str, Any]
    processor: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> int:
        """Hz of the samples that the model was trained on."""
        return int(self.processor.get("sampling_rate") or self.config.get("sampling_rate") or SAMPLE_RATE)

    @property
    def kind(self) -> str:
        """Class of the processor; empty where there is none."""
        return str(self.processor.get("feature_extractor_type") or "")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs; empty where they have none of their own."""
        names = self.config.get("id2label") or {}
        found = [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
        return () if all(name == f"LABEL_{i}" for i, name in enumerate(found)) else tuple(found)

    @cached_property
    def features(self) -> str | None:
        """What the processor does, as ``--features`` has it; None where it does nothing, or nothing that is known here."""
        own, normalised = (
            self.processor,
            bool(self.processor.get("do_normalize", self.kind != "WhisperFeatureExtractor")),
        )
        if self.kind == "Wav2Vec2FeatureExtractor":
            return "wave:1,norm=item" if normalised else None
        if self.kind == "ASTFeatureExtractor":
            moments = (
                f",mean={own.get('mean', -4.2677393)},deviation={2 * own.get('std', 4.5689974)}" if normalised else ""
            )
            return f"kaldi:{own.get('num_mel_bins', 128)},frames={own.get('max_length', 1024)}{moments}"
        if (
            self.kind == "WhisperFeatureExtractor"
            and own.get("n_fft") == 400
            and own.get("hop_length") == 160
            and not normalised
        ):
            return f"whisper:{own.get('feature_size', 80)},frames={own.get('nb_max_frames', 3000)}"
        return None

    @property
    def takes_samples(self) -> bool:
        """Whether the model's input is a waveform: its encoder begins with convolutions of samples."""
        return "conv_dim" in self.config and "conv_stride" in self.config

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the input, in sentences."""
        if not self.processor:
            return (f"{self.path} holds no {PROCESSOR}: audio is fed as it is, at {self.rate} Hz",)
        if self.features is not None:
            return (
                f"the model was trained on what the {self.kind} makes of audio at {self.rate} Hz (--features {self.features}): "
                "a task does the same, a recipe must do it itself",
            )
        if self.kind == "Wav2Vec2FeatureExtractor":
            return ()
        return (f"what the {self.kind} does to the audio is not known here: give --features, or a recipe that does it",)

    @property
    def facts(self) -> dict[str, Any]:
        """For metadata and reports."""
        return {name: self.processor[name] for name in KEPT if name in self.processor}

    def example(self) -> tuple[Tensor, ...] | None:
        """A second of faint noise, or features of the length that the model has; None where the configuration does not say."""
        config, bins = self.config, self.config.get("num_mel_bins")
        if self.takes_samples:
            shape = (2, self.rate)
        elif bins and config.get("max_length") and "patch_size" in config:
            shape = (2, int(config["max_length"]), int(bins))  # type: ignore[assignment]
        elif bins and config.get("max_source_positions"):
            shape = (2, int(bins), 2 * int(config["max_source_positions"]))  # type: ignore[assignment]
        else:
            return None
        return (0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder that ``save_pretrained`` wrote."""
    return (Path(path) / CONFIG).is_file()


def read_folder(path: str | Path) -> Folder:
    """The configuration of a model, and its processor if there is one.

    Raises:
        LoadError: a file of it is not JSON.
    """
    folder = Path(path)
    processor = _json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    return Folder(folder, _json(folder / CONFIG), processor)


def _json(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LoadError(f"{path} is not JSON: copy or save the folder again ({error})") from error
    if not isinstance(held, dict):
        raise LoadError(f"{path} holds no configuration but a {type(held).__name__}: copy or save the folder again")
    return held
