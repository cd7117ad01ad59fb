"""The seal of an ONNX file: its last entry of metadata is the SHA-256 sum of all bytes before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import onnx

KEY = "sha256"
WRITER = "shrinkspeech_version"
"""Entry of the metadata of every file that the export writes."""


def sealed(data: bytes) -> bytes:
    """A serialised model with its seal: protobuf takes what follows a message as more of its entries."""
    return data + _entry(hashlib.sha256(data).hexdigest())


def is_altered(data: bytes, metadata: Mapping[str, str]) -> bool:
    """Whether a file says that the export wrote it, or bears a seal, and is not to the byte what was written."""
    if WRITER not in metadata and KEY not in metadata:
        return False
    length = len(_entry("0" * 64))
    return data[-length:] != _entry(hashlib.sha256(data[:-length]).hexdigest())


def _entry(digest: str) -> bytes:
    model = onnx.ModelProto()
    model.metadata_props.add(key=KEY, value=digest)
    return model.SerializeToString()
