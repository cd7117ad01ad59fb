"""What a configuration of transformers can say of a small model's widths, by the names of its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from shrinkspeech.errors import InputError
from shrinkspeech.loading.heads import Attention, Heads, within

Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Field:
    """One entry of a configuration: which parameters know it, and how.

    Attributes:
        parameter: pattern of their names.
        read: from their shapes, in the order of the model, to the entry.
    """

    name: str
    parameter: str
    read: Callable[[Shapes], Any]


def _largest(shapes: Shapes) -> int:
    """Layers that are narrower are filled up with zeros."""
    return max(shape[0] for shape in shapes)


def _each(shapes: Shapes) -> list[int]:
    return [shape[0] for shape in shapes]


@dataclass(frozen=True)
class Family:
    """Architectures that are built alike.

    Attributes:
        fields: what their configurations say of widths.
        heads: the entry for the number of heads, in every layer.
        width: the entry for the width of a head; where it is None, heads × width is the hidden size.
        hidden: the entry for the hidden size.
    """

    fields: tuple[Field, ...]
    heads: str
    hidden: str
    width: str | None = None

    def changes(
        self, tensors: Mapping[str, Tensor], attentions: Sequence[Attention]
    ) -> tuple[dict[str, Any], Heads | None]:
        """Entries for the small model, and the heads that every layer has then.

        Raises:
            InputError: heads and hidden size cannot be had together; a bare reason.
        """
        found: dict[str, Any] = {}
        for field in self.fields:
            shapes = [tuple(x.shape) for name, x in tensors.items() if re.fullmatch(field.parameter, name)]
            if shapes:
                found[field.name] = field.read(shapes)
        if not attentions:
            return found, None
        least = Heads(max(a.least.count for a in attentions), max(a.least.width for a in attentions))
        heads = least if self.width is not None else within(found[self.hidden], least)
        found[self.heads] = heads.count
        if self.width is not None:
            found[self.width] = heads.width
        return found, heads


WAVES = Family(
    (
        Field("hidden_size", r"(.*\.)?encoder\.layer_norm\.weight", _largest),
        Field("intermediate_size", r".*\.feed_forward\.intermediate_dense\.weight", _largest),
        Field("conv_dim", r"(.*\.)?feature_extractor\.conv_layers\.\d+\.conv\.weight", _each),
        Field("classifier_proj_size", r"projector\.weight", _largest),
        Field(
            "num_conv_pos_embedding_groups",
            r"(.*\.)?encoder\.pos_conv_embed\.conv\.weight",
            lambda shapes: shapes[0][0] // shapes[0][1],
        ),
    ),
    heads="num_attention_heads",
    hidden="hidden_size",
)
SPECTROGRAMS = Family(
    (
        Field("hidden_size", r"(.*\.)?layernorm\.weight", lambda shapes: shapes[0][0]),
        Field("intermediate_size", r".*\.mlp\.fc1\.weight", _largest),
    ),
    heads="num_attention_heads",
    hidden="hidden_size",
    width="head_dim",
)
WHISPER = Family(
    (
        Field("d_model", r"(.*\.)?encoder\.layer_norm\.weight", _largest),
        Field("encoder_ffn_dim", r".*encoder\.layers\.\d+\.fc1\.weight", _largest),
        Field("classifier_proj_size", r"projector\.weight", _largest),
    ),
    heads="encoder_attention_heads",
    hidden="d_model",
)

FAMILIES = {
    "wav2vec2": WAVES,
    "hubert": WAVES,
    "wavlm": WAVES,
    "unispeech": WAVES,
    "unispeech-sat": WAVES,
    "audio-spectrogram-transformer": SPECTROGRAMS,
    "whisper": WHISPER,
}
"""By ``model_type``."""


def family_of(model_type: str) -> Family:
    """
    Raises:
        InputError: what its configuration says of widths is not known here; a bare reason.
    """
    if model_type not in FAMILIES:
        raise InputError(f"what the configuration of a '{model_type}' says of widths is not known here")
    return FAMILIES[model_type]
