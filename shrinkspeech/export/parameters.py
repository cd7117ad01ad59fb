"""Parameters, counted one way everywhere: elements of the model's ``nn.Parameter`` tensors, each tensor once.

Tables, windows, running statistics and other buffers are no parameters, and neither are constants in the code. A graph does
not tell a trained weight from a table, and holds some weights merged with others (a batch norm in its convolution, equal
tensors in one), so that the export writes the number into the file, beside the number of all constants that it wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

from shrinkspeech.export.constants import weight_elements
from shrinkspeech.export.onnx_file import OnnxFile

PARAMETERS, CONSTANTS = "parameters", "constants"
"""Entries of the metadata."""


@dataclass(frozen=True)
class Parameters:
    """How many parameters a file has, and what was counted."""

    count: int
    note: str


def parameters(file: OnnxFile) -> Parameters:
    """Trained elements where the export says how many, as long as the file's constants are those of the export; else all.

    A graph does not tell a trained weight from a table or a window, and holds some weights merged with others.
    """
    held = weight_elements(file.proto)
    said = [file.metadata.get(key, "") for key in (PARAMETERS, CONSTANTS)]
    if not all(text.isdecimal() for text in said):
        return Parameters(held, "all constants, tables and windows too")
    if int(said[1]) != held:
        return Parameters(held, "all constants: they are no longer those that the export wrote")
    return Parameters(int(said[0]), "" if int(said[0]) == held else f"trained ones; the file holds {held:,} constants")
