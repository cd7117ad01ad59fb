"""What in a ``torch.export`` archive would run code of its own on loading.

``torch.export.load`` unpickles whatever the archive says is pickled, loads compiled libraries, evaluates sizes and guards as
text, looks operators up by name from ``torch`` on and writes names into the Python that it generates. A program that
``torch.export.save`` wrote for a plain model needs none of that, so that an archive which does is refused until its owner is
trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from shrinkspeech.loading.entries import faults, is_key, quoted


def code_in(file: IO[bytes]) -> str:
    """The first member or entry that would run code on loading, in words; empty if there is none.

    Raises:
        Exception: the archive cannot be read.
    """
    from torch.export.pt2_archive import constants as known
    from torch.export.pt2_archive._package import PT2ArchiveReader

    with PT2ArchiveReader(file) as reader:  # the reader that loading uses: same names, same bytes
        for name in reader.get_file_names():
            if name.startswith(known.AOTINDUCTOR_DIR):
                return f"compiled code ({quoted(name)}), which runs on loading"
            found = next(_member_faults(name, reader), "")
            if found:
                return found
    return ""


def _member_faults(name: str, reader: Any) -> Iterator[str]:
    from torch._export.serde import schema
    from torch._export.serde.serialize import _bytes_to_dataclass
    from torch.export.pt2_archive import constants as known

    if name.startswith(known.MODELS_DIR):
        yield from faults(_bytes_to_dataclass(schema.ExportedProgram, reader.read_bytes(name)))
    elif name.startswith((known.WEIGHTS_DIR, known.CONSTANTS_DIR)) and name.endswith(".json"):
        payload = _bytes_to_dataclass(schema.PayloadConfig, reader.read_bytes(name))
        yield from faults(payload)
        for entry in payload.config.values() if name.startswith(known.CONSTANTS_DIR) else ():
            if not entry.path_name.startswith(known.TENSOR_CONSTANT_FILENAME_PREFIX):
                yield f"a pickled object ({quoted(entry.path_name)}), which runs code of its own"


def program_in(file: IO[bytes]) -> ExportedProgram:
    """The program of an archive in which ``code_in`` has found nothing.

    Not by ``torch.export.load``, which turns to an older format where this one fails: nobody has looked through that. The keys
    of the example inputs go into guards, in quotes that they could leave.

    Raises:
        Exception: torch cannot read it, or its example inputs are not plain.
    """
    from torch.export.pt2_archive._package import load_pt2

    with tensors_only():
        program: ExportedProgram = load_pt2(file).exported_programs["model"]
    for path, _ in pytree.tree_flatten_with_path(program.example_inputs)[0]:
        for key in (entry.key for entry in path if isinstance(entry, pytree.MappingKey)):
            if not is_key(key):
                raise ValueError(f"the example inputs hold the key {quoted(key)}")
    return program


@contextmanager
def tensors_only() -> Iterator[None]:
    """Inside, ``torch.load`` refuses every pickle that holds more than tensors, also where torch itself calls it."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
